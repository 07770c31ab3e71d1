"""The layout of the ledger, and its rings of ended connections."""

import pytest

from fdpass._memory import common, mapped
from fdpass.serve.shared.ledger import MOST_WORKERS, RING, SIZE, Column, Ledger

COLUMNS = {column.name.lower(): column for column in Column}


@pytest.mark.parametrize(("name", "column"), COLUMNS.items(), ids=COLUMNS)
@pytest.mark.parametrize("row", [0, 1, MOST_WORKERS - 1])
def test_each_column_and_row_has_a_word_of_its_own(name, column, row):
    """Columns side by side, of 64-bit words: the layout that both processes go by."""
    buffer = bytearray(SIZE)
    ledger = Ledger(buffer)
    getattr(ledger, name)[row] = -2
    ledger.release()
    start = 8 * (column * MOST_WORKERS + row)
    assert buffer[start : start + 8] == b"\xfe" + b"\xff" * 7
    assert not any(buffer[:start]) and not any(buffer[start + 8 :])  # noqa: PT018 - one fact


@pytest.mark.parametrize("size", [0, 8, SIZE - 8])
def test_memory_of_a_wrong_size_is_refused(size):
    with pytest.raises(ValueError, match=f"at least {SIZE} bytes, not {size}"):
        Ledger(bytearray(size))


def test_clear_zeroes_one_row_only():
    ledger = Ledger(bytearray(SIZE))
    for name in COLUMNS:
        column = getattr(ledger, name)
        column[4], column[5], column[6] = 1, 2, 3
    ledger.clear(5)
    assert [[getattr(ledger, name)[row] for row in (4, 5, 6)] for name in COLUMNS] == [[1, 0, 3]] * len(COLUMNS)


# The rings: which connections have ended


def test_noted_slots_are_read_once_and_in_order():
    ledger = Ledger(bytearray(SIZE))
    for slot in (5, 0, 2**32 - 1):
        assert ledger.note(3, slot)
    assert ledger.read_notes(2) == ledger.read_notes(4) == []
    assert ledger.read_notes(3) == [5, 0, 2**32 - 1]
    assert ledger.read_notes(3) == []
    ledger.note(3, 7)
    assert ledger.read_notes(3) == [7]


def test_a_full_ring_refuses_a_note_until_it_is_read():
    ledger = Ledger(bytearray(SIZE))
    assert all(ledger.note(0, slot) for slot in range(RING))
    assert not ledger.note(0, RING)
    assert ledger.read_notes(0) == list(range(RING))
    assert ledger.note(0, RING)
    assert ledger.read_notes(0) == [RING]


def test_a_ring_starts_again_at_its_end_and_its_count_wraps():
    """The count in a word has 31 bits: one that is about to wrap is as good as any."""
    ledger = Ledger(bytearray(SIZE))
    ledger.ended[0] = ledger.seen[0] = 2**31 - 1 - RING
    for slot in range(3 * RING):
        ledger.note(0, slot)
        assert ledger.read_notes(0) == [slot]


def test_a_word_that_is_not_stored_yet_is_not_read():
    """The dispatcher goes by the words, and not by a count that it may see before them."""
    ledger = Ledger(bytearray(SIZE))
    ledger.ended[0] = 5
    assert ledger.read_notes(0) == []


def test_a_cleared_row_has_an_empty_ring():
    ledger = Ledger(bytearray(SIZE))
    for slot in range(3):
        ledger.note(1, slot)
    ledger.clear(1)
    assert ledger.read_notes(1) == []
    assert ledger.note(1, 9)
    assert ledger.read_notes(1) == [9]


def test_two_processes_see_each_others_figures():
    """Two mappings of one memfd stand for them."""
    with common(SIZE, name="fdpass-test") as memory:
        first, second = mapped(memory), mapped(memory)
    one, other = Ledger(first), Ledger(second)
    one.beat[7] = 123_456_789_012
    other.starved[7] = 1
    assert (other.beat[7], one.starved[7]) == (123_456_789_012, 1)
    one.release()
    other.release()
    first.close()
    second.close()


def test_the_memory_can_be_unmapped_after_release():
    with common(SIZE, name="fdpass-test") as memory:
        map = mapped(memory)
    ledger = Ledger(map)
    with pytest.raises(BufferError):
        map.close()
    ledger.release()
    map.close()
