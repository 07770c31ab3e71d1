"""The ring in which a worker notes ended connections for the dispatcher."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdpass.serve.shared.ledger import MOST_WORKERS, RING, SIZE, Column, Ledger


@pytest.fixture
def ledger():
    return Ledger(bytearray(SIZE))


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=400), max_size=12))
def test_notes_are_read_in_order_each_once(batches):
    """However many have gone through the ring before."""
    ledger = Ledger(bytearray(SIZE))
    ledger.ended[3] = ledger.seen[3] = 5 * RING - 100
    for batch in batches:
        assert all(ledger.note(3, slot) for slot in batch)
        assert ledger.read_notes(3) == batch
    assert ledger.read_notes(3) == []


def test_a_full_ring_takes_no_more_until_it_was_read(ledger):
    assert all(ledger.note(0, slot) for slot in range(RING))
    assert not ledger.note(0, 7)
    assert ledger.read_notes(0) == list(range(RING))
    assert ledger.note(0, 7)
    assert ledger.read_notes(0) == [7]


def test_it_goes_round(ledger):
    for turn in range(5 * RING // 3):
        assert all(ledger.note(0, 3 * turn + step) for step in range(3))
        assert ledger.read_notes(0) == [3 * turn, 3 * turn + 1, 3 * turn + 2]
    assert ledger.ended[0] == ledger.seen[0] == 3 * (5 * RING // 3)


@pytest.mark.parametrize("row", [0, 1, MOST_WORKERS - 1])
def test_each_worker_has_a_ring_of_its_own(ledger, row):
    assert all(ledger.note(row, slot) for slot in range(RING))
    for other in {0, 1, 2, MOST_WORKERS - 1} - {row}:
        assert ledger.read_notes(other) == []
        assert ledger.note(other, 99)
        assert ledger.read_notes(other) == [99]
    assert ledger.read_notes(row) == list(range(RING))


def test_a_word_from_an_earlier_round_is_not_taken_for_a_new_one(ledger):
    for slot in range(RING):
        ledger.note(0, slot)
    ledger.read_notes(0)
    ledger.ended[0] += 1  # as if the count were seen before the word
    assert ledger.read_notes(0) == []


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5))
def test_what_the_worker_cannot_have_noted_ends_the_reading(garbage, place):
    """Another worker may write anything there: it is not taken for a note, nor is what comes behind it."""
    ledger = Ledger(bytearray(SIZE))
    for slot in range(6):
        ledger.note(0, slot + 10)
    if garbage >> 32 == place + 1:
        garbage = 0
    ledger._rings[place] = garbage
    assert ledger.read_notes(0) == list(range(10, 10 + place))
    assert ledger.seen[0] == place


def test_nothing_in_a_ring_lets_the_reading_go_on_for_ever(ledger):
    for slot in range(RING):
        ledger.note(0, slot)
    ledger.ended[0] = 2**40
    assert len(ledger.read_notes(0)) == RING
    assert ledger.read_notes(0) == []


def test_a_new_worker_in_a_row_begins_with_an_empty_ring(ledger):
    for slot in range(10):
        ledger.note(4, slot)
    ledger.read_notes(4)
    ledger.note(4, 10)
    ledger.clear(4)
    assert ledger.read_notes(4) == []
    assert (ledger.ended[4], ledger.seen[4]) == (0, 0)
    assert {Column.ENDED, Column.SEEN} <= set(Column)
    assert ledger.note(4, 5)
    assert ledger.read_notes(4) == [5]
