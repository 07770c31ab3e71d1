"""The dispatcher accepts and passes: even loads, credit, capacity, and the end."""

import contextlib
import os

import pytest

from fdpass.serve.dispatcher.accept.base import BURST, WINDOW
from fdpass.serve.shared import messages


@pytest.fixture
def office(new_office):
    return new_office()


def test_nothing_is_accepted_while_nobody_is_ready(staff, office):
    office.connect()
    staff.go()
    assert office.watched == 0
    assert office.books.accepted == 0
    member = office.hire(0)
    staff.go()
    assert office.takes(member) == [0]


def test_a_burst_is_spread_and_each_worker_gets_its_own_in_one_message(staff, office):
    members = [office.hire(row) for row in range(4)]
    office.connect(BURST)
    staff.go(1)
    for member in members:
        ((word, data, count),) = staff.read(office.desks[member.row])
        assert (word, len(data) // 4, count) == (messages.HANDOFF, BURST // 4, BURST // 4)


def test_one_by_one_the_load_differs_by_one_at_most(staff, office):
    members = [office.hire(row) for row in range(3)]
    for _ in range(10):
        office.connect()
        staff.go(2)
        loads = [member.live for member in members]
        assert max(loads) - min(loads) <= 1
    assert sum(loads) == 10


def test_several_listeners(staff, new_office):
    office = new_office(listeners=3)
    member = office.hire(0)
    for listener in range(3):
        office.connect(2, listener)
    staff.go()
    assert len(office.takes(member)) == 6


def test_a_worker_gets_no_more_than_its_window_untaken(staff, office):
    """Then the listener is not watched: the kernel's backlog is the queue, and nothing is dropped."""
    member = office.hire(0)
    office.connect(WINDOW + 10)
    staff.go(8)
    assert member.untaken == WINDOW
    assert office.watched == 0
    assert staff.ledger.starved[0]
    first = office.takes(member)
    staff.go(8)
    assert not staff.ledger.starved[0]
    assert len(first) == WINDOW
    assert len(office.takes(member)) == 10


def test_another_worker_has_credit_yet(staff, office):
    slow, quick = office.hire(0), office.hire(1)
    for _ in range(5):
        office.connect(60)
        staff.go(6)
        office.takes(quick)
    assert slow.untaken == WINDOW
    assert slow.live + quick.live == 300


def test_a_worker_at_its_capacity_gets_no_more(staff, new_office):
    office = new_office(capacity=5)
    member = office.hire(0)
    office.connect(8)
    staff.go(8)
    slots = office.takes(member)
    assert len(slots) == 5
    assert office.watched == 0
    office.finish(member, slots[:2])
    staff.go(8)
    assert len(office.takes(member)) == 2


def test_no_more_live_than_may(staff, new_office):
    office = new_office(most=5)
    member = office.hire(0)
    office.connect(8)
    staff.go(8)
    slots = office.takes(member)
    assert office.books.live == len(slots) == 5
    assert office.watched == 0
    office.finish(member, slots)
    staff.go(8)
    assert len(office.takes(member)) == 3


# The end


def test_drop_closes_what_nobody_could_have(staff, office):
    member = office.hire(0)
    office.connect(2)
    staff.go()
    office.passing.remove(member)
    office.passing.gone(member)
    office.passing.drain(lambda: None)
    office.passing.drop()
    assert (office.books.live, office.books.lost) == (0, 2)
    for client in office.clients:
        client.settimeout(60)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_worker_that_leaves_is_not_chosen_even_if_another_takes_its_row(staff, office):
    first = office.hire(0)
    office.passing.remove(first)
    office.passing.remove(first)
    office.passing.refresh(first)
    assert office.passing._loads == []
    office.passing.go_on()
    assert office.watched == 0


def test_descriptors_are_held_once_and_closed_when_they_are_handed(staff, office):
    """Without custody, the dispatcher's own duplicate is closed at once."""
    office.hire(0)
    before = len(os.listdir("/proc/self/fd"))
    office.connect(20)
    staff.go()
    assert len(os.listdir("/proc/self/fd")) == before + 20  # the clients' own
