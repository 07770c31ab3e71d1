"""The workers accept: turns are given and settled, end with a worker that dies or hangs, and are checked."""

import array
import contextlib
import socket

import pytest

from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.accept.balance import Least
from fdpass.serve.dispatcher.accept.by_worker import ByWorker
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.listeners import listen_at
from fdpass.serve.shared import messages


class Office:
    """A `ByWorker` with its listeners, clients, and workers that accept when they are told to."""

    def __init__(self, staff, *, most=1000, capacity=500, binds=("127.0.0.1:0",)):
        self.staff = staff
        self.books = Connections(most)
        self.listeners = listen_at(binds, 2048)
        self.turning = ByWorker(staff.loop, self.listeners, self.books, staff.ledger, Least(), capacity)
        self.clients = []
        self.accepted = []
        self.desks = {}

    def hire(self, row):
        member = self.staff.hire(row)
        self.desks[row] = self.staff.desk(member)
        self.turning.add(member)
        self.turning.go_on()
        return member

    def connect(self, count=1, listener=0):
        sock = self.listeners[listener].sock
        for _ in range(count):
            client = socket.socket(sock.family)
            client.settimeout(60)
            client.connect(sock.getsockname())
            self.clients.append(client)

    def turns(self, member):
        """The worker reads its channel: of each turn the listener and the slots."""
        found = []
        for word, data, _ in self.staff.read(self.desks[member.row]):
            assert word == messages.TURN
            index, *slots = array.array("I", data)
            found.append((index, slots))
        return found

    def accept(self, turn):
        """As a worker does: as many as there are slots, and connections."""
        index, slots = turn
        used = []
        for slot in slots:
            with contextlib.suppress(BlockingIOError):
                self.accepted.append(self.listeners[index].sock.accept()[0])
                used.append(slot)
        return used

    def serve(self, member):
        """It has its turns, accepts, and reports; the slots of its connections."""
        found = []
        for turn in self.turns(member):
            used = self.accept(turn)
            self.staff.ledger.accepted[member.row] += len(used)
            self.turning.took(member, used)
            found += used
        return found

    @property
    def watched(self):
        return self.turning._watching

    def close(self):
        self.turning.close()
        for each in (*self.listeners, *self.clients, *self.accepted):
            each.close()
        assert self.books.accepted == self.books.finished + self.books.live + self.books.lost


@pytest.fixture
def office(staff):
    with contextlib.closing(Office(staff)) as office:
        yield office


def test_a_turn_is_for_as_many_as_wait(staff, office):
    members = [office.hire(row) for row in range(2)]
    office.connect(10)
    staff.go()
    turns = [office.turns(member) for member in members]
    assert [len(slots) for ((_, slots),) in turns] == [5, 5]
    assert office.books.accepted == 0


def test_the_listener_is_not_watched_while_a_turn_is_open(staff, office):
    """Else it would be reported again and again."""
    members = [office.hire(row) for row in range(2)]
    office.connect(2)
    staff.go()
    assert office.watched == set()
    office.serve(members[0])
    assert office.watched == set()
    office.serve(members[1])
    assert office.watched == {0}
    assert office.books.live == office.books.handed == 2


def test_the_load_differs_by_one_at_most(staff, office):
    members = [office.hire(row) for row in range(3)]
    for _ in range(10):
        office.connect()
        staff.go()
        for member in members:
            office.serve(member)
    loads = [member.live for member in members]
    assert sum(loads) == 10
    assert max(loads) - min(loads) <= 1


def test_slots_that_were_not_used_are_free_again(staff, office):
    """Another took the connection, or its client went away."""
    member = office.hire(0)
    office.connect(3)
    staff.go()
    ((index, slots),) = office.turns(member)
    used = office.accept((index, slots[:1]))
    office.turning.took(member, used)
    assert (office.books.accepted, member.live) == (1, 1)
    assert office.books.room == 999
    staff.go()
    assert len(office.serve(member)) == 2


def test_listeners_have_turns_of_their_own(staff, tmp_path):
    with contextlib.closing(Office(staff, binds=("127.0.0.1:0", f"unix:{tmp_path}/s"))) as office:
        member = office.hire(0)
        office.connect(1, 0)
        staff.go()
        assert office.watched == {1}
        office.connect(2, 1)
        staff.go()
        assert office.watched == set()
        assert [index for index, _ in office.turns(member)] == [0, 1]


def test_the_bounds_hold_for_what_is_offered(staff):
    with contextlib.closing(Office(staff, most=5, capacity=3)) as office:
        members = [office.hire(row) for row in range(2)]
        office.connect(9)
        staff.go()
        assert [len(office.serve(member)) for member in members] == [3, 2]
        staff.go()
        assert office.watched == set()
        assert office.books.live == 5


@pytest.mark.parametrize(
    "slots_of",
    [lambda slots: slots[1:], lambda slots: [*slots, 99], lambda slots: [99], lambda slots: slots[::-1]],
)
def test_a_report_that_fits_no_turn_is_refused(staff, office, slots_of):
    member = office.hire(0)
    office.connect(3)
    staff.go()
    ((_, slots),) = office.turns(member)
    with pytest.raises(ProtocolError, match="without having a turn"):
        office.turning.took(member, slots_of(slots))
    assert office.books.accepted == 0


def test_a_report_without_a_turn_is_refused(staff, office):
    member, other = office.hire(0), office.hire(1)
    office.connect()
    staff.go()
    ((_, slots),) = office.turns(member)
    for slots_told in ([], slots):
        with pytest.raises(ProtocolError):
            office.turning.took(other, slots_told)
    office.turning.took(member, slots)
    with pytest.raises(ProtocolError):
        office.turning.took(member, slots)


# Workers that do not move, or die


def test_a_turn_that_a_stuck_worker_has_not_read_is_taken_back(staff, office):
    stuck = office.hire(0)
    office.connect(4)
    staff.go()
    other = office.hire(1)
    staff.hang(stuck)
    office.turning.look()
    assert (stuck.live, len(stuck.turns)) == (0, 0)
    staff.go()
    assert len(office.serve(other)) == 4
    assert office.turns(stuck) == []


def test_for_a_turn_that_a_stuck_worker_has_read_nobody_waits(staff, office):
    stuck = office.hire(0)
    office.connect(4)
    staff.go()
    ((index, slots),) = office.turns(stuck)
    other = office.hire(1)
    staff.hang(stuck)
    office.turning.look()
    assert office.watched == {0}
    staff.go()
    assert len(office.serve(other)) == 4
    staff.move(stuck)  # it wakes up, and finds nothing
    office.turning.took(stuck, office.accept((index, slots)))
    assert (stuck.live, office.books.live) == (0, 4)
    assert office.watched == {0}


def test_what_is_no_turn_stays_in_the_channel_with_its_descriptors(staff, office):
    stuck, _ = office.hire(0), office.hire(1)
    stuck.send(messages.LOG, [0])
    office.connect(2)
    staff.go()
    staff.hang(stuck)
    office.turning.look()
    assert staff.read(office.desks[0]) == [(messages.LOG, b"", 1)]


def test_of_a_dead_worker_the_ledger_tells_what_it_had_accepted(staff, office):
    """It died before it could report: those connections are lost, and the rest of its slots free."""
    dead = office.hire(0)
    office.connect(5)
    staff.go()
    ((index, slots),) = office.turns(dead)
    office.accept((index, slots[:3]))
    staff.ledger.accepted[0] = 3
    other = office.hire(1)
    office.turning.remove(dead)
    office.turning.gone(dead)
    assert (office.books.accepted, office.books.lost, office.books.room) == (3, 3, 1000)
    office.turning.go_on()
    staff.go()
    assert len(office.serve(other)) == 2


@pytest.mark.parametrize("nonsense", [-5, 10**9])
def test_nonsense_in_the_ledger_stays_within_the_turn(staff, office, nonsense):
    dead = office.hire(0)
    office.connect(5)
    staff.go()
    office.turns(dead)
    staff.ledger.accepted[0] = nonsense
    office.turning.remove(dead)
    office.turning.gone(dead)
    assert office.books.lost == (0 if nonsense < 0 else 5)
    assert office.books.room == 1000


def test_a_channel_that_takes_no_more_costs_no_slot(staff, office, monkeypatch):
    member = office.hire(0)
    monkeypatch.setattr(member, "send", lambda *_: False)
    office.connect(3)
    staff.go()
    assert (member.live, office.books.room) == (0, 1000)
    assert office.watched == set()
    monkeypatch.undo()
    office.turning.look()
    staff.go()
    assert len(office.serve(member)) == 3


def test_after_close_there_is_no_turn(staff, office):
    office.hire(0)
    office.turning.close()
    office.connect()
    staff.go()
    assert office.watched == set()
    office.turning.go_on()
    assert office.watched == set()
