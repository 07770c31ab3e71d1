"""What both ways of accepting are alike in: who can take a connection, and when to watch the listeners.

`by_dispatcher` accepts and passes each connection; `by_worker` tells the chosen worker to accept. Both stop
watching while no worker has credit, or as many connections live as may: then the kernel's backlog is the queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.accept.balance import NEVER, Balance
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.ended import Ended
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.loop import Loop, Timer
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.ledger import BEAT_SECONDS, Ledger

log = logging.getLogger("fdpass.serve")

WINDOW = 128
"""Credit: how many connections may wait untaken in one worker's channel."""

STUCK_NS = int(3.5 * BEAT_SECONDS * 1e9)
"""A worker whose last beat is older gets nothing new."""

BURST = 64
"""So many connections are accepted, or offered, before other events get their turn."""

MOST_DRAINED = 4096
"""At the end so many more are accepted at a listener: the kernel's usual bound of a backlog (net.core.somaxconn).
Clients may go on coming as fast as they are served, and it shall be an end."""

_DEAF_BEATS = 20
_FULL_SECONDS = 10.0  # until it is said again that a worker has no room
_ROOM_SECONDS = 0.1  # nothing tells when a descriptor becomes free


class Accepting:
    """What both ways have in common: who can take a connection, and whether to watch the listeners.

    Args:
        loop: Where the listeners are watched.
        listeners: Lent.
        accounts: The books.
        ledger: Of the workers.
        balance: How to choose.
        capacity: The most connections that one worker may have.
        custody: Who keeps duplicates of connections, if anybody does.
    """

    def __init__(  # noqa: PLR0917 - each is one thing that it works with
        self,
        loop: Loop,
        listeners: Sequence[Listening],
        accounts: Connections,
        ledger: Ledger,
        balance: Balance,
        capacity: int,
        *,
        custody: Custody | None = None,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._accounts = accounts
        self._ledger = ledger
        self._balance = balance
        self._capacity = capacity
        self._members: dict[int, WorkerHandle] = {}
        self._loads: list[int] = []
        self._refused: set[int] = set()  # rows without credit, or stuck
        self._watching: set[int] = set()  # indices of listeners
        self._pause: Timer | None = None
        self._full = 0.0  # when there was no room, the last time
        self._closed = False
        self._backlogs: dict[int, int] = {}  # once `drain` was called: how many more are accepted at a listener
        self._drained: Callable[[], None] | None = None
        self._ended = Ended(ledger, accounts, custody)

    @property
    def waits(self) -> bool:
        """Whether there are connections that no worker has."""
        return False

    # Who can take one

    def add(self, member: WorkerHandle) -> None:
        """A worker is ready."""
        self._ended.add(member)
        self._members[member.row] = member
        self._loads.extend([NEVER] * (member.row + 1 - len(self._loads)))
        self.refresh(member)

    def remove(self, member: WorkerHandle) -> None:
        """A worker gets nothing more."""
        if self._members.pop(member.row, None) is not None:
            self._loads[member.row] = NEVER
            self._refused.discard(member.row)
            while self._loads and self._loads[-1] == NEVER and len(self._loads) - 1 not in self._members:
                self._loads.pop()

    def refresh(self, member: WorkerHandle) -> None:
        """Something about a worker has changed."""
        if self._members.get(member.row) is member:
            can = member.row not in self._refused and member.live < self._capacity
            self._loads[member.row] = member.live if can else NEVER

    def look(self) -> None:
        """Look after those that were refused, and take back what stuck ones have not read. Ten times a second."""
        self._hear_again()
        now = time.monotonic_ns()
        for row in list(self._refused):
            member = self._members[row]
            if self._moves(member, now) and member.untaken < WINDOW:
                self._refused.discard(row)
                self._ledger.starved[row] = 0
                self.refresh(member)
        for member in list(self._members.values()):
            if self._is_deaf(member):
                log.error("worker %d does not read its channel, though its loop runs: it is killed", member.pid)
                member.kill()
                member.deaf = 0
            if not self._moves(member, now):
                self.refuse(member)
                if (member.untaken > 0 or member.turns) and self._anybody():
                    self.take_back(member)
        self.go_on()

    # What workers tell

    def hear(self) -> None:
        """Read in the ledger which connections have ended."""
        for member in self._ended.read():
            self.refresh(member)

    def _hear_again(self) -> None:
        """As `hear`, before workers are chosen, unless it was done a moment ago."""
        for member in self._ended.read_again():
            self.refresh(member)

    def told(self, member: WorkerHandle, word: bytes, data: bytes) -> bool:
        """A worker sent a message about its connections.

        Args:
            member: The worker.
            word: The first byte of the message: see `messages`.
            data: The whole message.

        Returns:
            False if the message is none that workers send to whoever accepts in this way.

        Raises:
            ProtocolError: What it says cannot be true.
        """
        if word == messages.FINISHED:
            try:
                self._ended.told(member, messages.slots_of(data))
            finally:
                self.refresh(member)
            self.go_on()
        elif word == messages.DROPPED:
            self.dropped(member, messages.slots_of(data))
        elif word == messages.ROOM:
            self.room(member)
        else:
            return False
        return True

    def dropped(self, member: WorkerHandle, slots: Sequence[int]) -> None:
        """A worker's table of descriptors was full: it could not take these."""
        self._say_full(member, len(slots))
        for slot in slots:
            if not self._accounts.lose(slot, member.row):
                raise ProtocolError("it reports a connection that it does not have")
            member.live -= 1
        self.refresh(member)

    def _say_full(self, member: WorkerHandle, count: int) -> None:
        if time.monotonic() > member.full + _FULL_SECONDS:
            member.full = time.monotonic()
            log.error("worker %d had no room for %d connection(s) that were passed to it", member.pid, count)
        self.refuse(member)

    def room(self, member: WorkerHandle) -> None:
        """A worker took something."""
        if member.row in self._refused:
            self.look()

    def go_on(self) -> None:
        """Place what waits, and watch the listeners if more is welcome."""
        raise NotImplementedError

    def take_back(self, member: WorkerHandle) -> None:
        """Have what a worker has not read; if it lives, it gets back what is no connection."""
        raise NotImplementedError

    def gone(self, member: WorkerHandle) -> str:
        """A worker is dead: place what others can go on with. Returns what became of its connections."""
        raise NotImplementedError

    def _moves(self, member: WorkerHandle, now: int) -> bool:
        return now - self._ledger.beat[member.row] < STUCK_NS

    def _is_deaf(self, member: WorkerHandle) -> bool:
        """Whether its loop ran for so many beats, and read nothing of what waits in its channel."""
        beat = self._ledger.beat[member.row]
        turn = member.turns[0] if member.turns else None
        mark = (self._ledger.taken[member.row], id(turn))
        if mark != member.mark or (member.untaken <= 0 and turn is None):
            member.mark, member.deaf = mark, 0
        elif beat != member.beat:
            member.deaf += 1
        member.beat = beat
        return member.deaf >= _DEAF_BEATS

    def _anybody(self) -> bool:
        return min(self._loads, default=NEVER) != NEVER

    def refuse(self, member: WorkerHandle) -> None:
        """A worker gets nothing until `look` finds that it can take something: for the moment it has no room."""
        if self._members.get(member.row) is member:
            self._refused.add(member.row)
            self._ledger.starved[member.row] = 1  # it will say when it takes something
            self._loads[member.row] = NEVER

    def _credit(self, member: WorkerHandle) -> int:
        """How many connections a worker may get now; with 0 it is refused until it moves, or takes some."""
        credit = WINDOW - member.untaken if self._moves(member, time.monotonic_ns()) else 0
        if credit <= 0:
            self.refuse(member)
        return credit

    # Whether to watch

    def _wanted(self) -> bool:
        return not self._closed and self._pause is None and self._accounts.room > 0 and self._anybody()

    def _watch(self, wanted: Iterable[int]) -> None:
        wanted = set(wanted)
        for index in self._watching - wanted:
            self._loop.unwatch(self._listeners[index].sock.fileno())
        for index in wanted - self._watching:
            self._loop.watch(self._listeners[index].sock.fileno(), lambda index=index: self._on_listener(index))  # type: ignore[misc]
        self._watching = wanted

    def _on_listener(self, index: int) -> None:
        raise NotImplementedError

    def _no_room(self, error: OSError) -> None:
        now = time.monotonic()
        if now - self._full > 10 * _ROOM_SECONDS:  # else it is still the same trouble
            log.warning("cannot accept: %s; trying again as soon as there is room", error.strerror)
        self._full = now
        self._pause = self._loop.call_later(_ROOM_SECONDS, self._resume)
        self._watch(())

    def _resume(self) -> None:
        self._pause = None
        self.go_on()

    # The end

    def drain(self, then: Callable[[], None]) -> None:
        """Accept what the kernel has accepted already, and nothing more; call ``then`` when workers have it.

        Connections for which there is no room stay where they are. Nor is anything awaited of workers that have as
        many as they may; but of one that does not move for the moment, or has not taken what it got.
        """
        self._backlogs = dict.fromkeys(range(len(self._listeners)), MOST_DRAINED)
        self._drained = then
        self._watch(())
        self.go_on()

    def _drain_some(self, index: int, count: int) -> None:
        """So many were accepted at a listener."""
        if index in self._backlogs:
            self._backlogs[index] -= count
            if self._backlogs[index] <= 0:
                del self._backlogs[index]

    def _end_drain(self, *, waits: bool) -> None:
        """If nothing waits, nor is to be accepted, or there is nobody to wait for, that was all."""
        more = waits or (self._backlogs and self._accounts.room > 0)
        hope = self._refused or self._pause is not None or self._anybody()
        if self._drained is not None and not (more and hope):
            then = self._drained
            self.close()
            then()

    def close(self) -> None:
        """Accept nothing more."""
        self._closed = True
        self._drained = None
        if self._pause is not None:
            self._pause.cancel()
        self._watch(())

    def drop(self) -> None:
        """At the end: nothing is held here but by `ByDispatcher`."""


def lost(count: int) -> str:
    """What became of connections that nobody can go on with."""
    return f"; {count} connection(s) lost" if count else ""
