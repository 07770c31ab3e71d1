"""The estate: its layout, and that a second view of the same memory finds all of it."""

import pytest

from fdpass.serve.keeper.estate import (
    FREE,
    HEAD_WORDS,
    HELD,
    MOST_LISTENERS,
    ROW_WORDS,
    STATUSES,
    VERSION,
    Estate,
    Head,
    Row,
    Stage,
    offered_to,
    owned_by,
    row_of,
    size_for,
)
from fdpass.serve.shared.ledger import MOST_WORKERS

COLUMNS = ("statuses", "journal", "base", "written", "attempt", "unsent", "owners", "numbers")


def test_another_dispatcher_finds_each_word_where_the_first_has_stored_it():
    buffer = bytearray(size_for(5))
    first = Estate.fresh(buffer, 5)
    views = [first.head, first.rows, *(getattr(first, name) for name in COLUMNS)]
    stored = 7
    for view in views[1:]:
        for place in range(len(view)):
            view[place] = stored = stored + 1
    second = Estate(buffer)
    assert second.most == 5
    again = [second.head, second.rows, *(getattr(second, name) for name in COLUMNS)]
    assert [view.tolist() for view in again] == [view.tolist() for view in views]
    assert len(second.rows) == MOST_WORKERS * ROW_WORDS
    assert second.row(3).tolist() == second.rows[3 * ROW_WORDS : 4 * ROW_WORDS].tolist()


@pytest.mark.parametrize(("version", "most"), [(VERSION + 1, 5), (0, 5), (VERSION, 6)])
def test_an_estate_of_another_layout_is_refused(version, most):
    buffer = bytearray(size_for(5))
    estate = Estate.fresh(buffer, 5)
    estate.head[Head.VERSION], estate.head[Head.MOST] = version, most
    with pytest.raises(ValueError, match="layout"):
        Estate(buffer)


def test_a_private_estate_can_be_released():
    estate = Estate.private(3)
    assert estate.owners.tolist() == [FREE] * 3
    estate.release()
    with pytest.raises(ValueError, match="released"):
        estate.owners[0]


@pytest.mark.parametrize("row", [0, 1, MOST_WORKERS - 1])
def test_an_owner_is_one_worker_or_none(row):
    owner = owned_by(row)
    assert row_of(owner) == row
    assert owner not in {FREE, HELD}
    assert offered_to(row) < FREE
    assert row_of(FREE) < 0
    assert row_of(HELD) < 0


def test_the_words_fit_where_they_are():
    assert max(Head) < HEAD_WORDS
    assert max(Row) < ROW_WORDS
    assert Head.LISTENER + MOST_LISTENERS <= HEAD_WORDS
    assert Head.FEWER + 1 < Head.LISTENER


def test_a_status_is_found_until_many_others_have_come():
    estate = Estate.private(1)
    for pid in range(1, STATUSES + 6):
        estate.note_status(pid, pid << 8)
    assert estate.status_of(5) is None
    assert [estate.status_of(pid) for pid in (6, STATUSES + 5)] == [6 << 8, (STATUSES + 5) << 8]


def test_the_descriptors_that_the_estate_names():
    """Those of the server, its listeners, its workers, and its connections."""
    estate = Estate.private(9)
    estate.head[Head.LEDGER], estate.head[Head.HIGH] = 4, 3
    estate.head[Head.LISTENERS] = 2
    estate.head[Head.LISTENER], estate.head[Head.LISTENER + 1], estate.head[Head.LISTENER + 2] = 5, 6, 7
    for row, stage in ((0, Stage.READY), (2, Stage.GONE), (3, Stage.STARTING)):
        words = estate.row(row)
        words[Row.STATE], words[Row.PIDFD], words[Row.CHANNEL] = stage, 10 + row, 20 + row
    estate.numbers[1], estate.numbers[5] = 31, 32
    assert estate.named() == {3, 4, 5, 9, 12, 19, 22, 30}
    assert estate.stages() == {0: Stage.READY, 3: Stage.STARTING}
