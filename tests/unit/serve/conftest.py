"""For the tests of serve: `staff`, workers as the dispatcher sees them, real but for the process; `new_office` and
`works`, those who have them accept, and live; `case` and `tcp`, a connection in custody; `folder`, for modules.
"""

import array
import contextlib
import os
import signal
import socket
import sys
import time

import pytest

from fdpass import Fd
from fdpass._ancillary import MAX_FDS
from fdpass._conversation import MAX_MESSAGE, Conversation
from fdpass.serve.dispatcher.accept.balance import Least
from fdpass.serve.dispatcher.accept.by_dispatcher import ByDispatcher
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.listeners import listen_at
from fdpass.serve.dispatcher.loop import Loop
from fdpass.serve.dispatcher.pool import process
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.upkeep import Upkeep
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.ledger import SIZE, Ledger

from ._custody_case import FAMILIES, Case

LATER = 10**18  # ns: a beat so far ahead that its worker moves for as long as any test lasts


class FakeChild:
    """In the place of `process.Child`: it ends when the test says so."""

    def __init__(self, pid):
        self.pid = pid
        self.signals = []
        self._alive, ended = os.pipe()
        self._ended = Fd(ended)
        self.pidfd = Fd(self._alive)
        self.status = None

    def signal(self, number):
        self.signals.append(number)

    def end(self, status=0):
        """From now on its pidfd is readable."""
        self.status = status
        self._ended.close()

    def reap(self):
        self._ended.close()
        self.pidfd.close()
        return self.status


class Staff:
    """A loop, a ledger, and what stands for workers.

    Attributes:
        children: Every child that was started, in order.
        failing: What the next starts raise, if not None.
    """

    def __init__(self):
        self.loop = Loop()
        self.ledger = Ledger(bytearray(SIZE))
        self.children = []
        self.failing = None
        self._held = contextlib.ExitStack()

    def start(self, module, channel, arguments=()):
        """In the place of `process.start`."""
        if self.failing is not None:
            raise self.failing
        self.children.append(FakeChild(1000 + len(self.children)))
        return self.children[-1]

    def hire(self, row, *, ready=True):
        """A worker outside of any pool; it is closed at the end of the test."""
        member = WorkerHandle(row, 1, self.ledger, None)
        self._held.callback(member.close)
        if ready:
            member.move(State.READY)
            self.move(member)
        return member

    def move(self, member):
        """Its event loop moves, from now on."""
        self.ledger.beat[member.row] = time.monotonic_ns() + LATER

    def hang(self, member):
        """Its event loop has not moved for ever."""
        self.ledger.beat[member.row] = 0

    def desk(self, member):
        """The worker's own end of its channel."""
        talk = Conversation(
            socket.socket(fileno=os.dup(member._far.fileno())),
            acknowledged=False,
            max_message=MAX_MESSAGE,
            max_fds=MAX_FDS,
            policy=None,
        )
        self._held.callback(talk.close)
        return talk

    def read(self, talk):
        """All messages that wait at a desk: word, content, and how many descriptors (closed now)."""
        while talk.pull(socket.MSG_DONTWAIT) and not talk.ended:
            pass
        found = []
        while talk.inbox:
            with talk.take() as message:
                found.append((message.data[:1], message.data[1:], len(message)))
        return found

    def go(self, rounds=4):
        """Let the loop handle what has happened."""
        for _ in range(rounds):
            self.loop.call_later(0, self.loop.stop)
            self.loop.run()

    def go_until(self, condition):
        """Let the loop run until it is so; the test's own time limit is the bound."""
        while not condition():
            self.loop.call_later(0.005, self.loop.stop)
            self.loop.run()

    def close(self):
        self._held.close()
        self.loop.close()
        self.ledger.release()


@pytest.fixture
def staff(monkeypatch):
    staff = Staff()
    monkeypatch.setattr(process, "start", staff.start)
    yield staff
    staff.close()


class Office:
    """A `ByDispatcher` with its listeners, and clients."""

    def __init__(self, staff, *, most=1000, capacity=500, listeners=1):
        self.staff = staff
        self.books = Connections(most)
        self.listeners = listen_at(["127.0.0.1:0"] * listeners, 2048)
        self.passing = ByDispatcher(
            staff.loop, self.listeners, self.books, staff.ledger, Least(), capacity, custody=None
        )
        self.clients = []
        self.desks = {}

    def hire(self, row):
        member = self.staff.hire(row)
        self.desks[row] = self.staff.desk(member)
        self.passing.add(member)
        self.passing.go_on()
        return member

    def connect(self, count=1, listener=0):
        for _ in range(count):
            self.clients.append(socket.create_connection(self.listeners[listener].sock.getsockname(), 60))

    def takes(self, member, *, reports=True):
        """The worker reads its channel: the slots that it got."""
        slots = []
        for word, data, count in self.staff.read(self.desks[member.row]):
            assert word == messages.HANDOFF
            got = array.array("I", data)
            assert len(got) == count
            slots += got
        self.staff.ledger.taken[member.row] += len(slots)
        if reports:
            self.passing.room(member)
        return slots

    def finish(self, member, slots):
        for slot in slots:
            assert self.books.finish(slot, member.row)
            member.live -= 1
        self.passing.refresh(member)
        self.passing.go_on()

    @property
    def watched(self):
        return len(self.passing._watching)

    def close(self):
        self.passing.close()
        self.passing.drop()
        for each in (*self.listeners, *self.clients):
            each.close()
        assert self.books.accepted == self.books.finished + self.books.live + self.books.lost


@pytest.fixture
def new_office(staff):
    """``new_office(most=, capacity=, listeners=)``: an `Office`, closed at the end of the test."""
    with contextlib.ExitStack() as held:
        yield lambda **options: held.enter_context(contextlib.closing(Office(staff, **options)))


class Dispatcher:
    """A fake owner: what the pool told it, in order."""

    def __init__(self):
        self.told = []
        self.lost = ""
        self.waiting = False

    def buffers(self):
        return None

    def set_up(self, member, generation):
        self.told.append(("set up", member.pid, generation.number))
        return True

    def ready(self, member):
        self.told.append(("ready", member.pid))

    def leaving(self, member):
        self.told.append(("leaving", member.pid))

    def gone(self, member):
        self.told.append(("gone", member.pid))
        return self.lost

    def waits(self):
        return self.waiting

    def settled(self):
        pass


class Works:
    """A pool, and its workers' lives."""

    def __init__(self, staff, **settings):
        self.staff = staff
        self.owner = Dispatcher()
        config = Config(**{"workers": 2, **settings})
        self.pool = Pool(staff.loop, staff.ledger, self.owner, config, AccessLog(""))
        self.upkeep = Upkeep(staff.loop, staff.ledger, self.pool)

    def start(self):
        self.pool.reconcile()
        self.all_ready()
        return self

    def all_ready(self):
        for member in self.pool.members:
            if member.state is State.STARTING:
                self.staff.move(member)
                self.pool.on_ready(member)

    def end(self, member, status=0):
        """Its process ends, and the loop notices."""
        child = member.child
        child.end(status)
        self.staff.go_until(lambda: member.state is State.GONE)

    def end_the_killed(self):
        for member in self.pool.members:
            if signal.SIGKILL in member.child.signals:
                self.end(member, -signal.SIGKILL)

    def states(self):
        return [(member.pid - 1000, member.generation, member.state.value) for member in self.pool.members]

    def close(self):
        self.pool.stopping = True
        for member in self.pool.members:
            self.end(member)
        self.pool.close()


@pytest.fixture
def works(staff):
    """``works(workers=2, ...)``: a pool with these settings; its workers have ended after the test."""
    made = []

    def make(**settings):
        made.append(Works(staff, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=FAMILIES)
def case(request):
    """A connection in custody, of each family."""
    with contextlib.closing(Case(request.param)) as case:
        yield case


@pytest.fixture(params=["ipv4", "ipv6"])
def tcp(request):
    """The same, of those for which the kernel keeps counters."""
    with contextlib.closing(Case(request.param)) as case:
        yield case


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where modules of the test are; what it imports is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
