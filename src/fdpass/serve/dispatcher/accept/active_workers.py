"""`ActiveWorkers`: which active workers can take a connection now, and how many each.

A worker is *refused* while it has no credit, is stuck, or has no free descriptor: it gets nothing until `readmit`
finds that it can take something again.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from fdpass.serve.dispatcher.accept.balance import NEVER
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.pool.worker_handle import Turn, WorkerHandle
from fdpass.serve.shared.events import Event
from fdpass.serve.shared.ledger import BEAT_SECONDS, Ledger

log = logging.getLogger("fdpass.serve")

WINDOW = 128
"""The most credit: how many connections may wait in one worker's channel."""

STUCK_NS = int(3.5 * BEAT_SECONDS * 1e9)
"""A worker whose last beat is older is stuck."""

_MOST_BEATS_UNREAD = 20


@dataclass(slots=True)
class _Reading:
    """How far a worker had read its channel at the last check, and how many beats ago it last read something."""

    taken: int = -1
    turn: Turn | None = None
    beat: int = 0
    beats_unread: int = 0


class ActiveWorkers:
    """The workers that get connections.

    Args:
        connections: All connections.
        ledger: Has the workers' beats.
        capacity: The most connections that one worker may have.
    """

    def __init__(self, connections: Connections, ledger: Ledger, capacity: int) -> None:
        self.capacity = capacity
        self._live_of = connections.live_of
        self._ledger = ledger
        self._workers: dict[int, WorkerHandle] = {}
        self._height = 0  # above the highest row of an active worker
        self._inactive: set[int] = set()  # rows below that without an active worker
        self._refused: set[int] = set()  # rows
        self._readings: dict[int, _Reading] = {}

    def add(self, worker: WorkerHandle) -> None:
        """Let a worker get connections."""
        self._workers[worker.row] = worker
        self._readings[worker.row] = _Reading()
        self._note_rows()

    def remove(self, worker: WorkerHandle) -> None:
        """Let a worker get no more connections."""
        if self._workers.pop(worker.row, None) is not None:
            self._refused.discard(worker.row)
            del self._readings[worker.row]
            self._note_rows()

    def _note_rows(self) -> None:
        self._height = max(self._workers, default=-1) + 1
        self._inactive = set(range(self._height)) - self._workers.keys()

    def __getitem__(self, row: int) -> WorkerHandle:
        """The active worker in a row."""
        return self._workers[row]

    def all(self) -> list[WorkerHandle]:
        """All active workers."""
        return list(self._workers.values())

    # What they can take

    def load(self, row: int) -> int:
        """The load of the active worker in a row: its connections, or `NEVER` if it can take none now."""
        live = self._live_of[row]
        return NEVER if row in self._refused or live >= self.capacity else live

    def loads(self) -> list[int]:
        """The snapshot of all loads for `balance`."""
        loads = self._live_of[: self._height]  # a slice is copied faster than a loop asks `load` for each row
        if max(loads, default=0) >= self.capacity:
            loads = [load if load < self.capacity else NEVER for load in loads]
        for row in self._inactive:
            loads[row] = NEVER
        for row in self._refused:
            loads[row] = NEVER
        return loads

    @property
    def any_can_take(self) -> bool:
        """Whether some worker can take a connection now."""
        live_of, refused, capacity = self._live_of, self._refused, self.capacity
        return any(row not in refused and live_of[row] < capacity for row in self._workers)

    @property
    def any_refused(self) -> bool:
        """Whether some worker may be able to take a connection later."""
        return bool(self._refused)

    def credit(self, worker: WorkerHandle) -> int:
        """How many connections may be put into a worker's channel now. A worker without credit is refused."""
        credit = 0 if self.is_stuck(worker) else WINDOW - worker.untaken
        if credit <= 0:
            self.refuse(worker)
        return credit

    def refuse(self, worker: WorkerHandle) -> None:
        """Let a worker get no connections until `readmit`."""
        if self._workers.get(worker.row) is worker:
            self._refused.add(worker.row)
            self._ledger.starved[worker.row] = 1  # the worker sends ROOM when it takes something

    def is_refused(self, worker: WorkerHandle) -> bool:
        """Whether a worker is refused."""
        return worker.row in self._refused

    def readmit(self) -> None:
        """Let refused workers that have credit again get connections."""
        for row in list(self._refused):
            worker = self._workers[row]
            if not self.is_stuck(worker) and worker.untaken < WINDOW:
                self._refused.discard(row)
                self._ledger.starved[row] = 0

    # Whether they run

    def is_stuck(self, worker: WorkerHandle) -> bool:
        """Whether a worker's event loop has not stored a beat for a while."""
        return time.monotonic_ns() - self._ledger.beat[worker.row] >= STUCK_NS

    def kill_if_deaf(self, worker: WorkerHandle) -> None:
        """Kill a worker whose loop has beaten `_MOST_BEATS_UNREAD` times without reading its channel."""
        reading, beat = self._readings[worker.row], self._ledger.beat[worker.row]
        taken, turn = self._ledger.taken[worker.row], worker.turns[0] if worker.turns else None
        has_read = taken != reading.taken or turn is not reading.turn
        if has_read or (worker.untaken <= 0 and turn is None):
            reading.taken, reading.turn, reading.beats_unread = taken, turn, 0
        elif beat != reading.beat:
            reading.beats_unread += 1
        reading.beat = beat
        if reading.beats_unread >= _MOST_BEATS_UNREAD:
            log.error(
                "worker %d does not read its channel, though its loop runs: it is killed",
                worker.pid,
                extra=worker.about(Event.WORKER_KILLED, cause="deaf"),
            )
            worker.kill("deaf")
            reading.beats_unread = 0
