"""`Acceptor`: what the two ways of accepting have in common.

`by_dispatcher` accepts and passes each connection; `by_worker` tells the chosen worker to accept. Both stop
watching the listeners while no worker has credit, or as many connections live as may: then the kernel's backlog is
the queue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from fdpass._supervision.loop import Loop
from fdpass._words import counted
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.accept.active_workers import ActiveWorkers
from fdpass.serve.dispatcher.accept.balance import Balance
from fdpass.serve.dispatcher.accept.drain import Drain
from fdpass.serve.dispatcher.accept.listener_watch import ListenerWatch
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.ended_connections import EndedConnections
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.events import Event
from fdpass.serve.shared.ledger import Ledger

log = logging.getLogger("fdpass.serve")

BURST = 64
"""How many connections are accepted, or offered, before the loop handles other events."""

_FULL_SECONDS = 10.0  # how often it is logged that a worker's descriptor table is full


class Acceptor:
    """Gets connections from the listeners to the workers.

    Args:
        loop: Event loop; watches the listeners.
        listeners: All listeners. Lent; a drain closes those whose backlog is empty.
        connections: All connections.
        ledger: The workers' ledger.
        balance: Chooses workers.
        capacity: The most connections that one worker may have.
        custody: Keeps duplicates of the connections; None without custody.
    """

    def __init__(  # noqa: PLR0917 - each is one thing that it works with
        self,
        loop: Loop,
        listeners: Sequence[Listening],
        connections: Connections,
        ledger: Ledger,
        balance: Balance,
        capacity: int,
        *,
        custody: Custody | None = None,
    ) -> None:
        self._listeners = listeners
        self._connections = connections
        self._ledger = ledger
        self._balance = balance
        self._workers = ActiveWorkers(connections, ledger, capacity)
        self._ended = EndedConnections(ledger, connections, custody)
        self._watch = ListenerWatch(loop, listeners, self._on_listener, self.proceed)
        self._drain: Drain | None = None
        self._closed = False

    @property
    def watch(self) -> ListenerWatch:
        """Which listeners are watched, and for how long none was."""
        return self._watch

    @property
    def has_waiting(self) -> bool:
        """Whether connections wait for a worker."""
        return False

    def proceed(self) -> None:
        """Hand out the connections that wait, and watch the listeners if workers can take more."""
        raise NotImplementedError

    # Workers

    def know(self, worker: WorkerHandle) -> None:
        """Read the reports of a worker from now on; it gets no connections."""
        self._ended.add(worker)

    def add(self, worker: WorkerHandle) -> None:
        """Let a worker get connections."""
        self._ended.add(worker)
        self._workers.add(worker)

    def remove(self, worker: WorkerHandle) -> None:
        """Let a worker get no more connections."""
        self._workers.remove(worker)

    def check_workers(self) -> None:
        """Readmit workers that have credit again, refuse stuck ones, kill those that do not read.

        What a stuck worker has not read is taken back. The dispatcher calls this ten times a second.
        """
        self._ended.read_if_due()
        self._workers.readmit()
        for worker in self._workers.all():
            self._workers.kill_if_deaf(worker)
            if self._workers.is_stuck(worker):
                self._workers.refuse(worker)
                if (worker.untaken > 0 or worker.turns) and self._workers.any_can_take:
                    self.take_back_unread(worker)
        self.proceed()

    def take_back_unread(self, worker: WorkerHandle) -> None:
        """Take back the connections, or turns, that a worker has not read out of its channel.

        Other messages are sent to it again.
        """
        raise NotImplementedError

    def recover(self, worker: WorkerHandle) -> str:
        """A worker is dead: queue the connections that other workers can continue, and end the others.

        Returns:
            What happened to its connections, for the log: ``; 3 moved; 1 answered 502``, or "" if it had none.
        """
        raise NotImplementedError

    # What workers report

    def read_ended(self) -> None:
        """Read from the ledger which connections have ended."""
        self._ended.read()

    def on_message(self, worker: WorkerHandle, kind: bytes, data: bytes) -> bool:
        """A worker has sent a message about its connections.

        Args:
            worker: The worker.
            kind: The first byte of the message: see `messages`.
            data: The whole message.

        Returns:
            False if workers do not send messages of this kind in this way of accepting.

        Raises:
            ProtocolError: What the message says cannot be true.
        """
        if kind == messages.FINISHED:
            self._ended.on_finished(worker, messages.slots_of(data))
            self.proceed()
        elif kind == messages.DROPPED:
            self.on_dropped(worker, messages.slots_of(data))
        elif kind == messages.ROOM:
            self.on_room(worker)
        else:
            return False
        return True

    def on_dropped(self, worker: WorkerHandle, slots: Sequence[int]) -> None:
        """A worker could not take these connections: its descriptor table is full."""
        self._log_full(worker, len(slots))
        for slot in slots:
            if not self._connections.lose(slot, worker.row):
                raise ProtocolError("it reports a connection that it does not have")

    def _log_full(self, worker: WorkerHandle, count: int) -> None:
        if time.monotonic() > worker.full_logged_at + _FULL_SECONDS:
            worker.full_logged_at = time.monotonic()
            log.error(
                "worker %d had no free descriptor for %s passed to it",
                worker.pid,
                counted(count, "connection"),
                extra=worker.about(Event.WORKER_FULL),
            )
        self._workers.refuse(worker)

    def on_room(self, worker: WorkerHandle) -> None:
        """A worker has taken connections out of its channel."""
        if self._workers.is_refused(worker):
            self.check_workers()

    # Listeners

    def _wants_more(self) -> bool:
        """Whether another connection may be accepted now."""
        return (
            not self._closed
            and not self._watch.is_paused
            and self._connections.available > 0
            and self._workers.any_can_take
        )

    def _on_listener(self, index: int) -> None:
        raise NotImplementedError

    # The end

    def drain(self, then: Callable[[], None]) -> None:
        """Accept what is in the backlogs now, and nothing more; call ``then`` when workers have it.

        The drain does not wait for workers that have as many connections as they may: what they cannot take stays
        in the backlog. It does wait for refused workers: they may be stuck, or without credit, only for the
        moment.
        """
        self._drain = Drain(len(self._listeners), then)
        self._watch.watch(())
        self.proceed()

    def _close_empty(self, drain: Drain, index: int) -> None:
        """A listener's backlog is empty: close the listener at once, before the kernel takes another client."""
        drain.empty(index)
        self._listeners[index].close()

    def _end_drain(self, drain: Drain, *, has_waiting: bool) -> None:
        """End the drain if nothing is left to hand out, or no worker is left that could take it."""
        is_left = has_waiting or (drain.open and self._connections.available > 0)
        has_taker = self._workers.any_refused or self._watch.is_paused or self._workers.any_can_take
        if not (is_left and has_taker):
            self.close()
            drain.then()

    def close(self) -> None:
        """Accept nothing more."""
        self._closed = True
        self._drain = None
        self._watch.close()

    def drop_waiting(self) -> None:
        """At the end, close the connections that still wait for a worker."""


def describe_lost(count: int) -> str:
    """What `Acceptor.recover` returns of ``count`` connections that no other worker can continue."""
    return f"; {counted(count, 'connection')} lost" if count else ""
