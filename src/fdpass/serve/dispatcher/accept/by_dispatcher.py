"""`ByDispatcher`: the dispatcher accepts, and passes each connection to the worker that it chooses."""

from __future__ import annotations

import errno
import itertools
import logging
import mmap
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fdpass._message import close_all, release
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.accept.active_workers import WINDOW
from fdpass.serve.dispatcher.accept.balance import NEVER
from fdpass.serve.dispatcher.accept.base import BURST, Acceptor, describe_lost
from fdpass.serve.dispatcher.accept.drain import Drain
from fdpass.serve.dispatcher.accept.reserve import Reserve
from fdpass.serve.dispatcher.accept.waiting import Waiting
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.lost_request import client_of
from fdpass.serve.dispatcher.passing import Passing
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.shared import messages, short_clock
from fdpass.serve.shared.ledger import EPOCH, Holder

log = logging.getLogger("fdpass.serve")

_MOST_IN_MESSAGE = WINDOW // 2  # so that the next message is on its way while the worker takes one
_OVER = {Holder.ENDED, Holder.UNSHUT}
_EXHAUSTED = {errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOBUFS}


class _Batch(NamedTuple):
    """Connections for one worker, in one message."""

    worker: WorkerHandle
    limit: int
    connections: list[Waiting]


class ByDispatcher(Acceptor):
    """See `Acceptor`, with its parameters.

    Args:
        custody: Keeps a duplicate of each connection; with None the dispatcher closes its own once it is passed.
        passing: Has the descriptors that are not passed yet; needed without custody.
    """

    def __init__(self, *arguments: Any, custody: Custody | None, passing: Passing | None = None) -> None:
        super().__init__(*arguments, custody=custody)
        self._custody = custody
        self._kept: Any = custody or passing
        self._reserve = Reserve()
        self._waiting: deque[Waiting] = deque()
        self._passed: list[int] = []  # without custody: slots of connections that were passed, to be closed here

    @property
    def has_waiting(self) -> bool:
        """See `Acceptor.has_waiting`."""
        return bool(self._waiting)

    def proceed(self) -> None:
        """See `Acceptor.proceed`."""
        if self._waiting:
            self._hand_out()
        if self._drain is not None:
            self._drain_backlogs(self._drain)
        elif self._wants_more() and not self._waiting:
            self._watch.watch_all()
        else:
            self._watch.wait_for_room()

    def _drain_backlogs(self, drain: Drain) -> None:
        self._ended.read_if_due()
        while drain.open and self._wants_more() and not self._waiting:
            self._accept(next(iter(drain.open)))
            self._hand_out()
        self._end_drain(drain, has_waiting=bool(self._waiting))

    def _on_listener(self, index: int) -> None:
        self._ended.read_if_due()
        self._accept(index)
        self.proceed()

    def _accept(self, index: int) -> None:
        # socket.accept() is made of _accept(): only the descriptor is needed here, and a socket object costs more
        # than the system call.
        sock, reserve = self._listeners[index].sock, self._reserve
        accept = sock._accept  # type: ignore[attr-defined]  # noqa: SLF001
        connections, waiting, keep, drain = self._connections, self._waiting, self._kept.keep, self._drain
        before, now = connections.accepted, short_clock.at(self._ended.now)
        for _ in range(min(BURST, connections.available)):
            try:
                if reserve.is_touched:
                    reserve.check(sock.fileno())
                fd, client = accept()
            except BlockingIOError:
                if drain is not None:
                    self._close_empty(drain, index)
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._watch.pause(error)
                    break
                log.debug("a client went away before it was accepted: %s", error)
                continue
            slot = connections.accept()
            keep(slot, fd)
            waiting.append(Waiting(slot, fd, now, client))
            if fd >= reserve.first:
                reserve.is_touched = True
        if drain is not None:
            drain.accepted(index, connections.accepted - before or BURST)  # failures count too: the drain must end

    # From the queue to workers

    def _hand_out(self) -> None:
        """Hand out all connections that wait, or as many as workers have credit for.

        This goes on until every worker is refused: only refused workers report when they can take more.
        """
        while self._waiting and (loads := self._workers.loads()) and min(loads) != NEVER:
            self._hand_out_batches(loads)

    def _hand_out_batches(self, loads: list[int]) -> None:
        """Choose a worker for each connection that waits, and send each worker its own in one message."""
        waiting, workers, requests = self._waiting, self._workers, self._ledger.requests
        choose = self._balance.choose
        batches: dict[int, _Batch] = {}
        while waiting and (row := choose(loads, requests, waiting[0].client)) >= 0:
            batch = batches.get(row)
            if batch is None:
                worker = workers[row]
                limit = min(workers.credit(worker), workers.capacity - loads[row], _MOST_IN_MESSAGE)
                if limit <= 0:
                    loads[row] = NEVER
                    continue
                batch = batches[row] = _Batch(worker, limit, [])
            connection = waiting.popleft()
            if connection.read:  # its bytes take a message of their own
                self._send(batch.worker, batch.connections)
                self._send(batch.worker, [connection], messages.replay(connection.slot, connection.read))
                del batches[row]
                loads[row] = workers.load(row)
                continue
            batch.connections.append(connection)
            loads[row] = loads[row] + 1 if len(batch.connections) < batch.limit else NEVER
        for batch in batches.values():
            self._send(batch.worker, batch.connections)
        if self._passed:
            self._kept.end(self._passed)
            self._passed.clear()

    def _send(self, worker: WorkerHandle, connections: list[Waiting], data: bytes = b"") -> None:
        if not connections:
            return
        slots = [connection.slot for connection in connections]
        fds = [connection.fd for connection in connections]
        self._connections.hand(slots, worker.row)  # before: if we die now, the next dispatcher asks the worker
        if worker.send(data or messages.with_slots(messages.HANDOFF, [connections[0].since, *slots]), fds):
            worker.sent += len(slots)
            if self._custody is None:
                self._passed += slots
        else:
            # The worker's queue is full, or too many descriptors are in flight: `check_workers` tries again.
            self._connections.unhand(slots, worker.row)
            self._workers.refuse(worker)
            self._waiting.extend(connections)

    # From workers back to the queue

    def take_back_unread(self, worker: WorkerHandle) -> None:
        """See `Acceptor.take_back_unread`."""
        for message in worker.take_unread():
            fds = release(message)
            kind = message.data[:1]
            if kind == messages.HANDOFF:
                self._take_back(worker, list(messages.slots_of(message.data)[1:]), fds)
            elif kind == messages.REPLAY:
                slot, read = messages.replayed(message.data)
                self._take_back(worker, [slot], fds, read)
            else:
                worker.send(message.data, fds)
                close_all(fds)

    def _take_back(self, worker: WorkerHandle, slots: list[int], fds: list[int], read: bytes = b"") -> None:
        worker.sent -= len(slots)
        unneeded: list[int] = []
        for slot, fd in itertools.zip_longest(slots, fds):
            # A worker may have reported the end of a connection before it read it: then the slot can be another's.
            is_own = self._connections.is_of(slot, worker.row)
            if is_own and self._kept.fd(slot) < 0 and fd is not None:  # without custody
                self._kept.keep(slot, fd)
                self._queue(slot, fd, read)
                continue
            if is_own and self._kept.fd(slot) >= 0:
                self._queue(slot, self._kept.fd(slot), read)
            elif is_own:  # our descriptor table was full, and the kernel closed this one
                self._connections.lose(slot, worker.row)
            if fd is not None:
                unneeded.append(fd)
        close_all(unneeded)

    def _queue(self, slot: int, fd: int, read: bytes) -> None:
        """Let a connection that a worker had wait for another worker."""
        self._connections.take_back(slot)
        self._wait(slot, fd, read)

    def _wait(self, slot: int, fd: int, read: bytes) -> None:
        client = client_of(fd) if self._balance.by_client else None
        self._waiting.append(Waiting(slot, fd, short_clock.now(), client, read))

    def take_returned(self, worker: WorkerHandle, slots: Iterable[int], read: bytes = b"") -> None:
        """Take connections that a living worker gives back, and hand them to other workers.

        Args:
            worker: The worker.
            slots: The slots of the connections.
            read: What the worker has read of them from BASE on.

        Raises:
            ProtocolError: The worker does not have one of them.
        """
        assert self._custody is not None, "only a connection in custody is given back"
        for slot in slots:
            if not self._connections.is_of(slot, worker.row):
                raise ProtocolError("it gives back a connection that it does not have")
            self._custody.take_back(slot, read)
            self._queue(slot, self._custody.fd(slot), read)
        self.proceed()

    def on_message(self, worker: WorkerHandle, kind: bytes, data: bytes) -> bool:
        """See `Acceptor.on_message`."""
        if self._custody is not None and kind == messages.RETURNED:
            self.take_returned(worker, messages.slots_of(data))
        elif self._custody is not None and kind == messages.MOVED:
            slot, read = messages.replayed(data)
            self.take_returned(worker, [slot], read)
        else:
            return super().on_message(worker, kind, data)
        return True

    def on_dropped(self, worker: WorkerHandle, slots: Sequence[int]) -> None:
        """See `Acceptor.on_dropped`. In custody the connections are not lost: other workers get them."""
        if self._custody is None:
            return super().on_dropped(worker, slots)
        self._log_full(worker, len(slots))
        return self.take_returned(worker, slots)

    def recover(self, worker: WorkerHandle) -> str:
        """See `Acceptor.recover`."""
        self._ended.remove(worker)
        self.take_back_unread(worker)
        if self._custody is None:
            return self._lose(worker)
        before = self._custody.counts.in_words()
        for slot in self._connections.slots_of(worker.row):
            if self._ledger.holders[slot] % EPOCH in _OVER:  # it could not report it
                self._connections.finish(slot, worker.row)
                self._custody.shut_down([slot])
                continue
            self.recover_slot(slot, worker.row, worker.buffers_map)
            if len(self._waiting) >= _MOST_IN_MESSAGE:
                self._hand_out()  # so that workers begin with these while the rest is decided
        counts = self._custody.counts.in_words() - before
        return "".join(f"; {count} {outcome}" for outcome, count in counts.items())

    def _lose(self, worker: WorkerHandle) -> str:
        """Without custody: lose what the worker had; and queue what a dead dispatcher may not have sent to it."""
        for slot in self._connections.slots_of(worker.row):
            if self._kept.fd(slot) >= 0 and self._ledger.holders[slot] % EPOCH == Holder.NOTHING:
                self.adopt_unsent(slot)
            else:
                self._kept.end([slot])
        return describe_lost(self._connections.lose_all(worker.row))

    def recover_slot(self, slot: int, row: int, buffers: mmap.mmap | None) -> None:
        """Decide about a connection that its worker has no more: queue it for another worker, or end it.

        Args:
            slot: The slot.
            row: The worker's row.
            buffers: The worker's receive buffers.
        """
        assert self._custody is not None, "only a connection in custody can be recovered"
        action, read = self._custody.recover(slot, buffers)
        if action is Action.IDLE or action is Action.REPLAY:
            self._queue(slot, self._custody.fd(slot), read)
        elif action is Action.FINISH:
            self._connections.finish(slot, row)
        else:
            self._connections.lose(slot, row)

    # From a dead dispatcher to this one: see `adoption`

    def adopt_accepted(self, fd: int, client: Any) -> None:
        """Queue a connection that the dead dispatcher had accepted, and had put into no slot. Given."""
        slot = self._connections.accept()
        self._kept.keep(slot, fd)
        self._waiting.append(Waiting(slot, fd, short_clock.now(), client))

    def adopt_held(self, slot: int) -> None:
        """Queue a connection that the dead dispatcher held for the next worker."""
        self._wait(slot, self._kept.fd(slot), self._handed(slot))

    def adopt_unsent(self, slot: int) -> None:
        """Queue a connection of which a worker was to have it, and never got it."""
        self._queue(slot, self._kept.fd(slot), self._handed(slot))

    def _handed(self, slot: int) -> bytes:
        return b"" if self._custody is None else self._custody.handed(slot)

    def drop_waiting(self) -> None:
        """See `Acceptor.drop_waiting`."""
        while self._waiting:
            connection = self._waiting.popleft()
            if self._custody is None:
                self._kept.end([connection.slot])
            else:
                self._custody.give_up(connection.slot, connection.read)
            self._connections.drop(connection.slot)
