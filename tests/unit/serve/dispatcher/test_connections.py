"""`Connections`: slots, and which worker may report their ends. tests/property has their property test."""

import pytest

from .._estates import connections_of


@pytest.fixture
def connections():
    return connections_of(4)


def figures(connections):
    names = ("accepted", "live", "handed", "finished", "rehanded", "lost")
    return {name: getattr(connections, name) for name in names}


def test_a_connection_that_finishes_is_counted_at_each_step(connections):
    slot = connections.accept()
    assert connections.live == 1
    connections.hand([slot], 3)
    assert connections.finish(slot, 3)
    assert figures(connections) == {
        "accepted": 1, "live": 0, "handed": 1, "finished": 1, "rehanded": 0, "lost": 0
    }  # fmt: skip


@pytest.mark.parametrize("report", ["finish", "lose"])
def test_only_the_worker_that_has_a_connection_can_report_its_end(connections, report):
    """Once, and not while the dispatcher holds it, nor for a slot that never was."""
    end = getattr(connections, report)
    slot = connections.accept()
    assert not end(slot, 0)
    connections.hand([slot], 0)
    assert not end(slot, 1)
    assert not end(slot + 1, 0)
    assert not end(2**32 - 1, 0)
    assert end(slot, 0)
    assert not end(slot, 0)
    assert connections.live == 0


@pytest.mark.parametrize("report", ["finish", "lose"])
def test_a_worker_cannot_report_the_end_of_a_connection_that_was_taken_back(connections, report):
    slot = connections.accept()
    connections.hand([slot], 0)
    connections.take_back(slot)
    assert not getattr(connections, report)(slot, 0)
    connections.hand([slot], 1)
    assert getattr(connections, report)(slot, 1)
    assert (connections.handed, connections.rehanded) == (2, 1)


def test_no_worker_can_report_the_end_of_an_offered_slot(connections):
    slot = connections.offer(0)
    assert not connections.finish(slot, 0)
    assert not connections.lose(slot, 0)
    connections.settle([slot], 0, 0)
    assert figures(connections)["accepted"] == 0


def test_live_connections_and_offered_slots_are_not_available(connections):
    held = connections.accept()
    offered = [connections.offer(0), connections.offer(0)]
    assert connections.available == 1
    connections.settle(offered, 1, 0)
    assert (connections.available, connections.live) == (2, 2)
    connections.drop(held)
    assert (connections.available, connections.live, connections.lost) == (3, 1, 1)


def test_the_first_slots_of_an_offer_have_the_connections(connections):
    offered = [connections.offer(5) for _ in range(3)]
    connections.settle(offered, 2, 5)
    assert [connections.finish(slot, 5) for slot in offered] == [True, True, False]


def test_with_a_dead_worker_only_its_own_connections_are_lost(connections):
    slots = [connections.accept() for _ in range(4)]
    for slot, row in zip(slots, (0, 1, 0), strict=False):
        connections.hand([slot], row)
    assert connections.lose_all(0) == 2
    assert (connections.lost, connections.live) == (2, 2)
    assert connections.lose_all(0) == 0
    assert connections.finish(slots[1], 1)


def test_connections_are_counted_for_each_worker_from_the_handoff_or_the_offer_on(connections):
    first, second = connections.accept(), connections.accept()
    assert connections.live_of[:2] == [0, 0]
    connections.hand([first], 0)
    connections.hand([second], 1)
    offered = [connections.offer(1), connections.offer(1)]
    assert connections.live_of[:2] == [1, 3]
    connections.settle(offered, 1, 1)
    connections.take_back(first)
    assert connections.live_of[:2] == [0, 2]
    connections.finish(second, 1)
    connections.lose(offered[0], 1)
    assert connections.live_of[:2] == [0, 0]


def test_slots_are_used_again_so_that_they_stay_small(connections):
    for _ in range(100):
        slot = connections.accept()
        connections.hand([slot], 0)
        connections.finish(slot, 0)
        assert slot == 0
