"""The end: workers get what the kernel has accepted before they are told to go, and nothing that comes later."""

import contextlib
import socket

import pytest

from fdpass.serve.dispatcher.accept.base import BURST, WINDOW

from .test_by_worker import Office as TurningOffice


class Ending:
    """``then`` of `drain`: how many times it was called."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


@pytest.fixture
def over():
    return Ending()


# The dispatcher accepts


def test_what_has_connected_already_is_accepted_and_then_nothing(staff, new_office, over):
    office = new_office(listeners=2)
    member = office.hire(0)
    office.connect(BURST + 6)
    office.connect(3, 1)
    office.passing.drain(over)
    assert over.count == 1
    assert len(office.takes(member)) == BURST + 9
    office.connect(1)
    staff.go()
    office.passing.look()
    assert (office.watched, office.books.accepted, over.count) == (0, BURST + 9, 1)


def test_a_worker_that_does_not_move_for_the_moment_is_waited_for(staff, new_office, over):
    office = new_office()
    member = office.hire(0)
    office.connect(5)
    staff.hang(member)
    office.passing.drain(over)
    office.passing.look()
    assert (over.count, office.takes(member)) == (0, [])
    staff.move(member)
    office.passing.look()
    assert over.count == 1
    assert len(office.takes(member)) == 5


def test_a_worker_that_was_found_stuck_before_is_waited_for(staff, new_office, over):
    office = new_office()
    member = office.hire(0)
    staff.hang(member)
    office.passing.look()
    office.connect(5)
    office.passing.drain(over)
    assert (over.count, office.books.accepted) == (0, 0)
    staff.move(member)
    office.passing.look()
    assert over.count == 1
    assert len(office.takes(member)) == 5


def test_a_worker_that_has_not_taken_what_it_got_is_waited_for(new_office, over):
    office = new_office()
    member = office.hire(0)
    office.connect(WINDOW + 10)
    office.passing.drain(over)
    assert over.count == 0
    assert len(office.takes(member)) == WINDOW
    assert over.count == 1
    assert len(office.takes(member)) == 10


def test_a_stuck_worker_beside_one_that_moves_is_not_waited_for(staff, new_office, over):
    office = new_office()
    stuck, other = office.hire(0), office.hire(1)
    staff.hang(stuck)
    office.connect(5)
    office.passing.drain(over)
    assert over.count == 1
    assert len(office.takes(other)) == 5


def test_nobody_is_waited_for_when_the_last_worker_dies(staff, new_office, over):
    office = new_office()
    dead = office.hire(0)
    staff.hang(dead)
    office.connect(5)
    office.passing.drain(over)
    office.passing.remove(dead)
    office.passing.gone(dead)
    office.passing.go_on()
    assert over.count == 1


@pytest.mark.parametrize("limits", [{"most": 4}, {"capacity": 4}], ids=["in all", "of a worker"])
def test_what_there_is_no_room_for_is_not_waited_for(new_office, over, limits):
    office = new_office(**limits)
    member = office.hire(0)
    office.connect(6)
    office.passing.drain(over)
    assert over.count == 1
    assert len(office.takes(member)) == 4


def test_clients_that_go_on_coming_do_not_put_off_the_end(staff, new_office, over, monkeypatch):
    monkeypatch.setattr("fdpass.serve.dispatcher.accept.base.MOST_DRAINED", 10)
    office = new_office()
    member = office.hire(0)
    staff.hang(member)
    office.connect(BURST)
    office.passing.drain(over)
    office.connect(BURST)
    staff.move(member)
    office.passing.look()
    assert (over.count, office.books.accepted) == (1, BURST)


def test_a_listener_that_fails_again_and_again_does_not_put_off_the_end(new_office, over):
    office = new_office()
    office.hire(0)
    office.listeners[0].sock.shutdown(socket.SHUT_RDWR)  # accept(2) says EINVAL from now on
    office.passing.drain(over)
    assert over.count == 1


def test_closed_meanwhile_it_does_not_say_that_all_is_drained(staff, new_office, over):
    office = new_office()
    member = office.hire(0)
    staff.hang(member)
    office.connect(1)
    office.passing.drain(over)
    office.passing.close()
    staff.move(member)
    office.passing.look()
    assert over.count == 0


# The workers accept


@pytest.fixture(params=["tcp", "unix"])
def office(request, staff, tmp_path):
    binds = ("127.0.0.1:0",) if request.param == "tcp" else (f"unix:{tmp_path}/s",)
    with contextlib.closing(TurningOffice(staff, binds=binds)) as office:
        yield office


def test_turns_are_given_until_nobody_waits(office, over):
    members = [office.hire(row) for row in range(2)]
    office.connect(7)
    office.turning.drain(over)
    served = 0
    while not over.count:
        served += sum(len(office.serve(member)) for member in members)
    assert served == office.books.accepted == 7
    office.connect()
    office.turning.look()
    assert [office.turns(member) for member in members] == [[], []]
    assert (office.watched, over.count) == (set(), 1)


def test_a_turn_that_is_open_is_waited_for(staff, office, over):
    member = office.hire(0)
    office.connect()
    staff.go()
    office.turning.drain(over)
    assert over.count == 0
    while not over.count:
        office.serve(member)
    assert office.books.accepted == 1


def test_a_stuck_worker_gets_its_turn_when_it_moves(staff, office, over):
    member = office.hire(0)
    staff.hang(member)
    office.turning.look()
    office.connect(3)
    office.turning.drain(over)
    assert over.count == 0
    staff.move(member)
    office.turning.look()
    while not over.count:
        office.serve(member)
    assert office.books.accepted == 3


def test_without_workers_it_is_the_end(office, over):
    office.connect()
    office.turning.drain(over)
    assert over.count == 1
