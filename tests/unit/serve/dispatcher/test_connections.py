"""The dispatcher's books: slots, and whose word counts. Their property test is tests/property's."""

import pytest

from fdpass.serve.dispatcher.connections import Connections


@pytest.fixture
def books():
    return Connections(4)


def figures(books):
    return {name: getattr(books, name) for name in ("accepted", "live", "handed", "finished", "rehanded", "lost")}


def test_a_connection_that_goes_well(books):
    slot = books.accept()
    assert books.live == 1
    books.hand([slot], 3)
    assert books.finish(slot, 3)
    assert figures(books) == {
        "accepted": 1, "live": 0, "handed": 1, "finished": 1, "rehanded": 0, "lost": 0
    }  # fmt: skip


@pytest.mark.parametrize("report", ["finish", "lose"])
def test_only_the_worker_that_has_a_connection_can_report_its_end(books, report):
    """Once, and not while the dispatcher holds it, nor for a slot that never was."""
    say = getattr(books, report)
    slot = books.accept()
    assert not say(slot, 0)
    books.hand([slot], 0)
    assert not say(slot, 1)
    assert not say(slot + 1, 0)
    assert not say(2**32 - 1, 0)
    assert say(slot, 0)
    assert not say(slot, 0)
    assert books.live == 0


@pytest.mark.parametrize("report", ["finish", "lose"])
def test_a_connection_that_was_taken_back_is_no_longer_the_workers(books, report):
    slot = books.accept()
    books.hand([slot], 0)
    books.take_back(slot)
    assert not getattr(books, report)(slot, 0)
    books.hand([slot], 1)
    assert getattr(books, report)(slot, 1)
    assert (books.handed, books.rehanded) == (2, 1)


def test_an_offered_slot_is_nobodys_to_finish(books):
    (slot,) = [books.offer()]
    assert not books.finish(slot, 0)
    assert not books.lose(slot, 0)
    books.settle([slot], 0, 0)
    assert figures(books)["accepted"] == 0


def test_room_counts_what_lives_and_what_is_offered(books):
    held = books.accept()
    offered = [books.offer(), books.offer()]
    assert books.room == 1
    books.settle(offered, 1, 0)
    assert (books.room, books.live) == (2, 2)
    books.drop(held)
    assert (books.room, books.live, books.lost) == (3, 1, 1)


def test_of_an_offer_the_first_slots_have_connections(books):
    offered = [books.offer(), books.offer(), books.offer()]
    books.settle(offered, 2, 5)
    assert [books.finish(slot, 5) for slot in offered] == [True, True, False]


def test_a_dead_worker_takes_its_own_with_it_and_no_others(books):
    slots = [books.accept() for _ in range(4)]
    for slot, row in zip(slots, (0, 1, 0), strict=False):
        books.hand([slot], row)
    assert books.lose_all(0) == 2
    assert (books.lost, books.live) == (2, 2)
    assert books.lose_all(0) == 0
    assert books.finish(slots[1], 1)


def test_slots_are_used_again_so_that_they_stay_small(books):
    for _ in range(100):
        slot = books.accept()
        books.hand([slot], 0)
        books.finish(slot, 0)
        assert slot == 0
