"""A server in a simulated kernel: clients, a dispatcher made of the real parts, and workers that are simulated.

The dispatcher can die at any step of its code; another one adopts what it left. Memory is real, and so is what the
dispatcher does with it; connections, channels and processes are not.
"""

import contextlib
import mmap
import random
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher import custody as custody_module
from fdpass.serve.dispatcher import kernel_counters, lost_request
from fdpass.serve.dispatcher.accept import by_dispatcher
from fdpass.serve.dispatcher.accept.balance import Least
from fdpass.serve.dispatcher.accept.by_dispatcher import ByDispatcher
from fdpass.serve.dispatcher.adoption import Adoption, Parts
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.handing_on import REPLAY_SIZE
from fdpass.serve.dispatcher.recovery import MOST_ATTEMPTS
from fdpass.serve.keeper.estate import FREE, Estate, size_for
from fdpass.serve.shared import ledger as ledger_module
from fdpass.serve.shared import messages
from fdpass.serve.shared.ledger import EPOCH, MOST_WORKERS, RING, Column, Holder, Ledger
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    BUFFER_SIZE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    ORIGIN,
    READ,
    WORDS,
    WRITTEN,
    Flag,
)

from ._deaths import Death, Died

MOST = 6
ROWS = 3
ESTABLISHED, FIN_WAIT2, CLOSED = 1, 5, 7
SAFE, UNSAFE = int(Flag.CALLED | Flag.SAFE | Flag.IDEMPOTENT), int(Flag.CALLED)
_COLUMNS = 8 * MOST_WORKERS * len(Column)


@dataclass(eq=False)
class Conn:
    """A connection in the kernel.

    Attributes:
        sent: All that its client has sent.
        read: How much of it was read.
        wrote: How much was written to it.
        state: TCP's.
        how: How it ended: "" while it lives.
        calls: By BASE of each request: the flags of each call of the application.
        deaths: Likewise: how many workers have died with it.
    """

    name: int
    sent: bytes = b""
    read: int = 0
    wrote: int = 0
    state: int = ESTABLISHED
    how: str = ""
    calls: dict = field(default_factory=dict)
    deaths: dict = field(default_factory=dict)

    def end(self, how, state):
        if self.state == ESTABLISHED:
            self.state, self.how = state, self.how or how


class Kernel:
    """The table of descriptors that all dispatchers share, and a backlog. A dead dispatcher does nothing."""

    def __init__(self):
        self.table, self.backlog, self.lingering = {}, deque(), set()
        self.dead = False

    def open(self, conn):
        number = next(number for number in range(1000, 9999) if number not in self.table)
        self.table[number] = conn
        return number

    def accept(self):
        if not self.backlog:
            raise BlockingIOError
        if self.dead:
            raise Died
        return self.open(self.backlog.popleft()), ("192.0.2.1", 1)

    def close_all(self, numbers):
        if not self.dead:
            for number in numbers:
                del self.table[number]

    def shut_down(self, number):
        if not self.dead:
            self.table[number].end("shut down", FIN_WAIT2)

    def reset(self, number):
        if not self.dead:
            self.table[number].end("reset", CLOSED)

    def send_last(self, number, data):
        if not self.dead:
            self.table[number].wrote += len(data)
            self.table[number].end("last", FIN_WAIT2)

    def linger(self, number):
        if not self.dead:
            del self.table[number]

    def awaits_client(self, number):
        return self.table[number].state == FIN_WAIT2

    def client_of(self, number):
        return "192.0.2.1", 1

    def counters(self, number):
        conn = self.table[number]
        return (conn.state, conn.wrote, conn.read), 0, 0


class Worker:
    """A worker, and what the dispatcher knows of it: both ends of the channel outlive every dispatcher."""

    def __init__(self, house, row):
        self.house, self.row, self.pid = house, row, 100 + row
        self.channel, self.reports, self.mine = deque(), deque(), {}
        self.buffers_map = mmap.mmap(-1, (MOST + 1) * BUFFER_SIZE)
        self.alive, self.epoch, self.known = True, 0, True
        self.kept = {}  # HOLDER of connections that were given back, whose bytes are in the buffer still
        self.renew()

    def renew(self):
        """What a new dispatcher does not know."""
        self.sent, self.turns, self.early_ends, self.full_logged_at = 0, deque(), [], 0.0

    # For the dispatcher

    @property
    def untaken(self):
        return self.sent - self.house.ledger.taken[self.row]

    def send(self, data, fds=()):
        kernel = self.house.kernel
        if not kernel.dead and self.house.random.random() < 0.9:
            self.channel.append((data, [kernel.table[fd] for fd in fds]))
            return True
        return False

    def take_unread(self):
        found = []
        while self.channel and not self.house.kernel.dead:
            data, conns = self.channel.popleft()
            found.append(SimpleNamespace(data=data, fds=[self.house.kernel.open(conn) for conn in conns]))
        return found

    def kill(self):
        raise AssertionError(f"worker {self.row} is killed")

    # Its own life

    def words(self, slot):
        return self.house.words[slot * WORDS : (slot + 1) * WORDS]

    def mark(self, slot, holder):
        self.house.ledger.holders[slot] = holder + EPOCH * self.epoch

    def run(self):
        """Read the whole channel; clear the buffers of connections that a dispatcher holds."""
        for slot, holder in list(self.kept.items()):
            if self.house.ledger.holders[slot] != holder:
                del self.kept[slot]
                self.buffers_map[slot * BUFFER_SIZE : slot * BUFFER_SIZE + 4] = bytes(4)
        while self.channel:
            data, conns = self.channel.popleft()
            kind, read = data[:1], b""
            if kind == messages.SYNC:
                self.epoch, _ = messages.synced_with(data)
                self.reports.append(messages.synced(self.epoch, leaving=False))
                continue
            if kind == messages.REPLAY:
                slot, read = messages.replayed(data)
                slots = [slot]
            else:
                slots = messages.slots_of(data)[1:]
            self.house.ledger.taken[self.row] += len(slots)
            for slot, conn in zip(slots, conns, strict=True):
                self.mark(slot, Holder.TAKEN)
                assert slot not in self.mine
                assert not any(conn in other.mine.values() for other in self.house.workers), "two have it"
                self.mine[slot] = conn
                self.begin(slot, conn, read)

    def begin(self, slot, conn, read):
        words = self.words(slot)
        assert conn.read == words[BASE] + len(read), (conn, read, list(words))
        assert conn.sent[words[BASE] : conn.read] == read
        assert conn.wrote == words[WRITTEN]
        if read:
            words[ORIGIN] = words[BASE]
            words[BUFFER] = slot + 1
            self.buffers_map[slot * BUFFER_SIZE : slot * BUFFER_SIZE + len(read)] = read
            words[READ] = conn.read

    def read(self, slot):
        """Read one more byte of the request in progress, which has four."""
        conn, words = self.mine[slot], self.words(slot)
        if conn.read - words[BASE] == 4:
            return
        if conn.read == len(conn.sent):
            conn.sent += b"%04d" % (conn.read // 4 + 1)
        if not words[BUFFER]:
            words[ORIGIN], words[BUFFER] = words[BASE], slot + 1
        start = slot * BUFFER_SIZE + conn.read - words[ORIGIN]
        self.buffers_map[start : start + 1] = conn.sent[conn.read : conn.read + 1]
        conn.read += 1
        words[READ] = conn.read

    def call(self, slot, flags):
        """Call the application, once the request is whole."""
        conn, words = self.mine[slot], self.words(slot)
        if conn.read - words[BASE] == 4 and not words[FLAGS]:
            words[FLAGS] = flags
            calls = conn.calls.setdefault(words[BASE], [])
            assert not calls or (UNSAFE not in calls and len(calls) < 2), "executed too often"
            calls.append(flags)

    def respond(self, slot):
        conn, words = self.mine[slot], self.words(slot)
        if words[FLAGS]:
            words[FINAL_BASE], words[FINAL_END] = words[BASE] + 4, conn.wrote + 3
            conn.wrote += 3
            self.buffers_map[slot * BUFFER_SIZE : slot * BUFFER_SIZE + 4] = bytes(4)
            words[FLAGS] = words[ATTEMPT] = 0
            words[BASE], words[WRITTEN] = words[FINAL_BASE], words[FINAL_END]
            words[FINAL_END] = words[BUFFER] = 0

    def end(self, slot):
        conn = self.mine.pop(slot)
        self.buffers_map[slot * BUFFER_SIZE : slot * BUFFER_SIZE + 4] = bytes(4)
        if self.house.random.random() < 0.5:
            conn.end("ended", FIN_WAIT2)
            self.mark(slot, Holder.ENDED)
            assert self.house.ledger.note(self.row, slot)
        else:
            conn.how = "ended"
            self.mark(slot, Holder.UNSHUT)
            self.reports.append(messages.with_slots(messages.FINISHED, [slot]))

    def give_back(self, slot):
        """An idle connection, or one with a part of a request."""
        words = self.words(slot)
        if words[FLAGS]:
            return
        conn = self.mine.pop(slot)
        self.mark(slot, Holder.RETURNED)
        self.kept[slot] = self.house.ledger.holders[slot]
        read = conn.sent[words[BASE] : conn.read]
        self.reports.append(messages.moved(slot, read) if read else messages.with_slots(messages.RETURNED, [slot]))

    def die(self):
        self.alive = False
        for slot, conn in self.mine.items():
            base = self.words(slot)[BASE]
            conn.deaths[base] = conn.deaths.get(base, 0) + 1
        self.mine.clear()


class House:
    """All of it.

    Attributes:
        conns: All connections that there ever were.
        workers: All workers that the estate has.
        deaths: How often the dispatcher has died.
        rounds: After so many turns of all processes nothing is left to do.
    """

    rounds = 50

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.kernel = Kernel()
        self.conns, self.deaths, self.serial = [], 0, 0
        self.memory = bytearray(size_for(MOST))
        self.ledger_memory = mmap.mmap(
            -1, ledger_module.size_for(MOST)
        )  # whose pages cost nothing until they are used
        self.estate = Estate.fresh(self.memory, MOST)
        self.ledger = Ledger(self.ledger_memory)
        self.workers = [Worker(self, row) for row in range(ROWS)]
        self.custody = None
        self.frozen = []
        self.make()
        for worker in self.workers:
            self.acceptor.add(worker)

    def make(self):
        """A dispatcher, made of its parts."""
        if self.custody is not None:  # the dead one's objects close nothing
            for memory in (self.custody.memory, self.custody.pages, self.custody._replays):
                memory.take()
        loop = SimpleNamespace(watch=lambda *_, **__: None, unwatch=lambda *_: None, call_later=lambda *_: None)
        listener = SimpleNamespace(sock=SimpleNamespace(_accept=self.kernel.accept, fileno=lambda: 1))
        self.connections = Connections(self.estate, self.ledger.holders)
        self.custody = Custody(loop, self.estate, "safe")
        self.custody.lingering = SimpleNamespace(add=self.kernel.linger, close=lambda: None)
        self.words = self.custody._words
        self.acceptor = ByDispatcher(
            loop, [listener], self.connections, self.ledger, Least(), MOST, custody=self.custody
        )
        self.acceptor._ended.read_if_due = self.acceptor._ended.read  # whatever the time
        self.acceptor._workers.is_stuck = lambda _: False
        self.acceptor._reserve = SimpleNamespace(is_touched=False, first=1 << 20)  # it has real numbers

    # Deaths

    def freeze(self):
        self.kernel.dead = True
        row = _COLUMNS + 8 * RING * ROWS
        self.frozen = [
            (self.memory, bytes(self.memory), 0),
            (self.ledger_memory, self.ledger_memory[:row], 0),
            (self.ledger_memory, self.ledger_memory[-8 * MOST :], len(self.ledger_memory) - 8 * MOST),
            (self.custody._map, self.custody._map[:], 0),
        ]
        replays = self.custody._replays_map
        for at in range(0, MOST * REPLAY_SIZE, REPLAY_SIZE):
            self.frozen.append((replays, replays[at : at + 16], at))

    def thaw(self):
        for memory, data, at in self.frozen:
            memory[at : at + len(data)] = data
        self.kernel.dead = False

    @contextlib.contextmanager
    def patched(self):
        kernel, nothing = self.kernel, SimpleNamespace(log=lambda *_, **__: None, warning=lambda *_: None)
        with (
            mock.patch.object(by_dispatcher, "close_all", kernel.close_all),
            mock.patch.object(by_dispatcher, "release", lambda message: message.fds),
            mock.patch.object(custody_module, "close_all", kernel.close_all),
            mock.patch.object(custody_module, "shut_down", kernel.shut_down),
            mock.patch.object(custody_module, "reset", kernel.reset),
            mock.patch.object(custody_module, "send_last", kernel.send_last),
            mock.patch.object(kernel_counters, "counters", kernel.counters),
            mock.patch.object(custody_module, "awaits_client", kernel.awaits_client),
            mock.patch.object(custody_module, "client_of", kernel.client_of),
            mock.patch.object(lost_request, "client_of", kernel.client_of),
            mock.patch.object(lost_request, "log", nothing),
        ):
            yield

    def act(self, what, death, within=()):
        """Let the dispatcher do something, and die at a step of it, if ``death`` is not 0."""
        with Death(death, self.freeze, within) as life:
            what()
        return life

    # What the dispatcher does

    def accept(self):
        self.acceptor._on_listener(0)

    def read_reports(self):
        self.acceptor.read_ended()
        for worker in self.workers:
            while worker.reports and not self.kernel.dead:
                self.on_report(worker, worker.reports.popleft())
        self.acceptor.proceed()

    def on_report(self, worker, data):
        kind = data[:1]
        if kind == messages.SYNCED:
            serial, _ = messages.synced_with(data)
            if serial == self.serial and not worker.known:
                self.acceptor.read_ended()
                self.adoption.settle(worker)
                worker.known = True
                self.acceptor._workers.add(worker)
        elif not self.acceptor.on_message(worker, kind, data):
            raise ProtocolError("unknown")

    def check(self):
        self.acceptor._workers.readmit()
        self.acceptor.proceed()

    def bury(self):
        """Decide about the connections of dead workers, and start others in their rows."""
        for index, worker in enumerate(self.workers):
            if not worker.alive:
                self.acceptor.remove(worker)
                self.acceptor.read_ended()
                while worker.reports and not self.kernel.dead:
                    self.on_report(worker, worker.reports.popleft())
                self.acceptor.recover(worker)
                if not self.kernel.dead:
                    self.ledger.clear(worker.row)
                    self.workers[index] = Worker(self, worker.row)
                    self.acceptor.add(self.workers[index])

    def adopt(self):
        """A new dispatcher takes over."""
        parts = Parts(self.estate, self.connections, self.acceptor, self.ledger, self.serial)
        self.adoption = Adoption(parts, self.custody)
        self.adoption.begin({worker.row for worker in self.workers}, self.unnamed())
        for worker in self.workers:
            worker.known = not worker.alive
            self.acceptor._ended.add(worker)
            if worker.alive:
                worker.channel.append((messages.sync(self.serial), []))
        self.bury()
        self.acceptor.proceed()

    def unnamed(self):
        """Sort out the descriptors that no word of the estate names, as the sweep of the table does."""
        numbers = {number - 1 for number in self.estate.numbers.tolist() if number}
        named = {self.kernel.table[number] for number in numbers}
        found = []
        for number, conn in sorted(self.kernel.table.items()):
            if number not in numbers:
                if conn.state == ESTABLISHED and conn not in named:
                    found.append((number, ("192.0.2.1", 1)))
                    named.add(conn)
                else:
                    del self.kernel.table[number]
        return found

    def take_over(self):
        """The dispatcher has died: make the next one, and let it adopt."""
        self.thaw()
        self.deaths += 1
        self.serial += 1
        self.make()
        for worker in self.workers:
            worker.renew()

    # The end

    def finish(self):
        """Everybody does what is left to do; then all connections end. Nothing may be left over."""
        self.settle_down()
        for conn in self.conns:
            holders = [worker for worker in self.workers if conn in worker.mine.values()]
            assert len(holders) == (not conn.how), (conn, holders)
            assert conn.how in {"", "ended", "last", "reset"}, conn
            if conn.how in {"last", "reset"}:
                calls = conn.calls.values()
                must_not = any(UNSAFE in each or len(each) > 1 for each in calls)
                assert must_not or max(conn.deaths.values()) > MOST_ATTEMPTS, conn
        for worker in self.workers:
            for slot in list(worker.mine):
                worker.end(slot)
        self.settle_down()
        assert self.estate.owners.tolist() == [FREE] * MOST
        assert self.estate.numbers.tolist() == self.estate.journal.tolist() == [0] * MOST
        assert self.kernel.table == {}
        assert (self.connections.live, sum(self.connections.live_of)) == (0, 0)
        assert 0 <= len(self.conns) - self.connections.finished - self.connections.lost <= self.deaths
        assert not any(worker.kept for worker in self.workers)
        self.custody.close()

    def settle_down(self):
        for _ in range(self.rounds):
            if self.kernel.backlog:
                self.accept()
            for worker in self.workers:
                worker.run()
            self.bury()
            self.read_reports()
            self.check()
        assert not self.kernel.backlog
