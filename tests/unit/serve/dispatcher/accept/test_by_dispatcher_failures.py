"""The dispatcher passes on, whatever fails: workers that hang or die, a full table, clients that go away."""

import errno
import logging
import socket

import pytest

from fdpass.serve.shared import messages
from fdpass.testing import full_table


@pytest.fixture
def office(new_office):
    return new_office()


def test_a_stuck_worker_gets_nothing_new_and_what_it_has_not_read_goes_to_another(staff, office):
    stuck = office.hire(0)
    office.connect(64)
    staff.go()
    assert stuck.untaken == 64
    other = office.hire(1)
    staff.hang(stuck)
    office.passing.look()
    assert stuck.live == stuck.untaken == 0
    assert len(office.takes(other)) == 64
    assert office.books.rehanded == 64
    office.connect(4)
    staff.go()
    assert len(office.takes(other)) == 4
    assert staff.read(office.desks[0]) == []
    staff.move(stuck)
    office.passing.look()
    office.connect(4)
    staff.go()
    assert len(office.takes(stuck)) == 4


def test_a_lone_stuck_worker_keeps_its_queue(staff, office):
    """It may wake up; nobody else could have it."""
    stuck = office.hire(0)
    office.connect(3)
    staff.go()
    staff.hang(stuck)
    office.passing.look()
    assert stuck.untaken == 3
    assert office.watched == 0


def test_what_is_no_connection_stays_in_the_channel_of_a_stuck_worker(staff, office):
    """Words and their descriptors: an access log that was opened again, say."""
    stuck, _ = office.hire(0), office.hire(1)
    stuck.send(messages.LOG, [0])
    office.connect(2)
    staff.go()
    staff.hang(stuck)
    office.passing.look()
    assert staff.read(office.desks[0]) == [(messages.LOG, b"", 1)]


def test_a_dead_worker_loses_what_it_had_taken_and_no_more(staff, office):
    dead = office.hire(0)
    office.connect(5)
    staff.go()
    office.takes(dead)
    office.connect(3)
    staff.go()
    other = office.hire(1)
    office.passing.remove(dead)
    office.passing.gone(dead)
    office.passing.go_on()
    assert len(office.takes(other)) == 3
    assert (office.books.lost, office.books.live) == (5, 3)


def test_what_a_dead_worker_had_not_read_waits_if_nobody_is_there(staff, office):
    dead = office.hire(0)
    office.connect(3)
    staff.go()
    office.passing.remove(dead)
    office.passing.gone(dead)
    office.passing.go_on()
    assert (office.books.lost, office.books.live) == (0, 3)
    assert office.watched == 0
    assert len(office.takes(office.hire(5))) == 3


def test_taking_back_into_a_full_table_of_descriptors_loses_what_has_no_room_and_no_more(staff, office):
    """recvmsg(2) installs as many as it can: the rest is lost, and the books say so."""
    stuck, other = office.hire(0), office.hire(1)
    staff.hang(other)
    office.passing.look()
    office.connect(10)
    staff.go()
    staff.move(other)
    staff.hang(stuck)
    office.passing._refused.discard(1)
    office.passing.refresh(other)
    with full_table(4):
        office.passing.take_back(stuck)
    office.passing.go_on()
    assert len(office.takes(other)) == 4
    assert (office.books.lost, office.books.live, stuck.live) == (6, 4, 0)


def test_a_channel_that_takes_no_more_is_tried_again(staff, office, monkeypatch):
    member = office.hire(0)
    monkeypatch.setattr(member, "send", lambda *_: False)
    office.connect(3)
    staff.go()
    assert (office.books.accepted, office.books.handed) == (3, 0)
    assert office.watched == 0
    monkeypatch.undo()
    office.passing.look()
    assert office.takes(member) == [0, 1, 2]
    assert (member.live, member.sent) == (3, 3)


# accept(2) fails


def test_a_full_table_pauses_and_goes_on_when_there_is_room(staff, office, caplog):
    caplog.set_level(logging.WARNING, "fdpass.serve")
    member = office.hire(0)
    office.connect(10)
    with full_table(3):
        staff.go(20)
        assert office.watched == 0
        assert office.books.accepted == 3
    staff.go_until(lambda: office.books.accepted == 10)
    assert len(office.takes(member)) == 10
    assert 1 <= len(caplog.records) <= 3
    assert "cannot accept: Too many open files" in caplog.text


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN])
def test_a_client_that_goes_away_before_it_is_accepted_is_no_matter(staff, office, number):
    failures = [number]

    class Flaky(socket.socket):
        def _accept(self):
            if failures:
                raise OSError(failures.pop(), "")
            return super()._accept()

    real = office.listeners[0].sock
    office.listeners[0].sock = Flaky(real.family, real.type, real.proto, fileno=real.detach())
    office.listeners[0].sock.setblocking(False)
    member = office.hire(0)
    office.connect(2)
    staff.go()
    assert failures == []
    assert len(office.takes(member)) == 2


def test_a_client_that_resets_before_it_is_accepted(staff, office):
    """Linux gives it out all the same; whoever reads will see."""
    office.connect()
    client = office.clients.pop()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    member = office.hire(0)
    staff.go()
    assert len(office.takes(member)) == 1
