"""`EndedConnections`: reads from the ledger and from messages which connections have ended, and closes them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared.events import Event
from fdpass.serve.shared.ledger import Ledger

log = logging.getLogger("fdpass.serve")

_READ_SECONDS = 0.005  # how often `read_if_due` reads: not once for each of a thousand connections a second


class EndedConnections:
    """Frees the slots of ended connections, and closes the dispatcher's duplicates of them.

    Args:
        ledger: Has the rings.
        connections: All connections.
        custody: Keeps the duplicates; None without custody.

    Attributes:
        now: When `read_if_due` was last called, on the monotonic clock.
    """

    def __init__(self, ledger: Ledger, connections: Connections, custody: Custody | None) -> None:
        self._ledger = ledger
        self._connections = connections
        self._custody = custody
        self._workers: dict[int, WorkerHandle] = {}
        self.now = 0.0
        self._read_at = 0.0  # when the ledger was last read, on the monotonic clock
        self._counts: list[int] = []  # of each row, how many ends its worker had noted by then

    def add(self, worker: WorkerHandle) -> None:
        """Read this worker's ring from now on."""
        self._workers[worker.row] = worker
        if worker.row < len(self._counts):
            self._counts[worker.row] = 0  # the count of the row's previous worker could hide this one's

    def remove(self, worker: WorkerHandle) -> None:
        """A worker has ended, and its ring was read: read it no more."""
        if self._workers.get(worker.row) is worker:
            del self._workers[worker.row]

    def read_if_due(self) -> None:
        """As `read`, unless the rings were read a moment ago."""
        self.now = now = time.monotonic()
        if now - self._read_at > _READ_SECONDS:
            self.read()

    def read(self) -> None:
        """Read the rings of all workers. A worker that has noted impossible slots is killed."""
        self._read_at = time.monotonic()
        height = max(self._workers, default=-1) + 1
        before, self._counts = self._counts, self._ledger.ended[:height].tolist()
        if self._counts == before:
            return
        before += [0] * (height - len(before))
        changed = [
            row for row, counts in enumerate(zip(self._counts, before, strict=False)) if counts[0] != counts[1]
        ]
        for row in changed:
            worker = self._workers.get(row)
            if worker is None:
                continue
            try:
                self._end(worker, self._ledger.read_notes(row), shut_down=False)
            except ProtocolError as error:
                extra = worker.about(Event.WORKER_KILLED, cause="nonsense")
                log.error("worker %d is killed: %s", worker.pid, error, extra=extra)  # noqa: TRY400 - no traceback of ours
                worker.kill("nonsense")

    def on_finished(self, worker: WorkerHandle, slots: Sequence[int]) -> None:
        """A worker has sent FINISHED: these connections have ended, and the worker could not shut them down.

        Raises:
            ProtocolError: The worker does not have one of them. Those before it have ended.
        """
        self._end(worker, slots, shut_down=True)

    def end_early(self, worker: WorkerHandle) -> None:
        """A turn of this worker is settled: end the connections of it that have ended already.

        Raises:
            ProtocolError: The worker did not accept one of them. Those before it have ended.
        """
        slots, worker.early_ends = worker.early_ends, []
        self._end(worker, slots, shut_down=False)

    def _end(self, worker: WorkerHandle, slots: Sequence[int], *, shut_down: bool) -> None:
        finish, row = self._connections.finish, worker.row
        ended: list[int] = []
        try:
            for slot in slots:
                if finish(slot, row):
                    ended.append(slot)
                elif slot not in worker.early_ends and self._may_accept(worker, slot):
                    worker.early_ends.append(slot)  # the ring was faster than the report that it accepted
                else:
                    raise ProtocolError("it reports the end of a connection that it does not have")
        finally:
            if self._custody is not None:
                (self._custody.shut_down if shut_down else self._custody.end)(ended)

    def _may_accept(self, worker: WorkerHandle, slot: int) -> bool:
        """Whether a slot is one of a turn of this worker, or one that a dead dispatcher has offered to it."""
        if any(slot in turn.slots for turn in worker.turns):
            return True
        return not worker.synced and self._connections.is_offered(slot, worker.row)
