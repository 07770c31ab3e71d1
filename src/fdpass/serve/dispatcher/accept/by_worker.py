"""`ByWorker`: the workers accept; the dispatcher watches the listeners, and offers turns to workers.

A listener is not watched while a turn at it is open, because epoll would report it again and again. A turn is
closed when its worker reports what it has accepted, dies, or is stuck.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections import Counter
from typing import Any

from fdpass._message import close_all, release
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.accept.balance import NEVER
from fdpass.serve.dispatcher.accept.base import BURST, Acceptor, describe_lost
from fdpass.serve.dispatcher.accept.drain import Drain
from fdpass.serve.dispatcher.pool.worker_handle import Turn, WorkerHandle
from fdpass.serve.shared import messages

_TCP_INFO_UNACKED = 24  # offset in struct tcp_info (linux/tcp.h): of a listener, how many connections wait


class ByWorker(Acceptor):
    """See `Acceptor`, with its parameters."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open_turns: Counter[int] = Counter()  # at each listener

    def proceed(self) -> None:
        """See `Acceptor.proceed`."""
        if self._drain is not None:
            self._drain_backlogs(self._drain)
        elif self._wants_more():
            self._watch.watch_some(index for index in range(len(self._listeners)) if not self._open_turns[index])
        else:
            self._watch.wait_for_room()

    def _drain_backlogs(self, drain: Drain) -> None:
        for index in list(drain.open):
            if not (self._backlog_length(index) or self._open_turns[index]):
                self._close_empty(drain, index)
            elif self._wants_more() and not self._open_turns[index]:
                self._offer_turns(index)
        self._end_drain(drain, has_waiting=any(self._open_turns[index] for index in drain.open))

    def _on_listener(self, index: int) -> None:
        self._offer_turns(index)
        self.proceed()

    def _offer_turns(self, index: int) -> None:
        self._ended.read_if_due()
        loads = self._workers.loads()
        slots_of: dict[int, list[int]] = {}
        for _ in range(min(BURST, self._connections.available, max(1, self._backlog_length(index)))):
            # Whose connection comes next is not known before it is accepted: `Hash` takes turns here.
            row = self._balance.choose(loads, self._ledger.requests, None)
            if row < 0:
                break
            if row not in slots_of and self._workers.credit(self._workers[row]) <= 0:
                loads[row] = NEVER
                continue
            slots_of.setdefault(row, []).append(self._connections.offer(row))
            loads[row] = self._workers.load(row)
        for row, slots in slots_of.items():
            self._send_turn(self._workers[row], Turn(index, slots))

    def _backlog_length(self, index: int) -> int:
        sock = self._listeners[index].sock
        if sock.family == socket.AF_UNIX:
            return 1  # the kernel does not say how many wait
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_UNACKED + 4)
        return int.from_bytes(info[_TCP_INFO_UNACKED:], sys.byteorder)

    def _send_turn(self, worker: WorkerHandle, turn: Turn) -> None:
        if worker.send(messages.with_slots(messages.TURN, [turn.listener, *turn.slots])):
            worker.turns.append(turn)
            self._open_turns[turn.listener] += 1
        else:
            self._connections.settle(turn.slots, 0, worker.row)
            self._workers.refuse(worker)

    def on_message(self, worker: WorkerHandle, kind: bytes, data: bytes) -> bool:
        """See `Acceptor.on_message`."""
        if kind != messages.ACCEPTED:
            return super().on_message(worker, kind, data)
        self.on_accepted(worker, list(messages.slots_of(data)))
        return True

    def on_accepted(self, worker: WorkerHandle, slots: list[int]) -> None:
        """A worker reports which slots of its oldest turn have a connection now.

        Raises:
            ProtocolError: The worker has no turn, or no turn with these slots.
        """
        if not worker.synced:
            return  # a turn of a dead dispatcher: see `adopt_turns`
        if not worker.turns or worker.turns[0].slots[: len(slots)] != slots:
            raise ProtocolError("it accepted without having a turn")
        turn = worker.turns.popleft()
        self._settle(worker, turn, len(slots))
        self._ended.end_early(worker)
        if self._drain is not None:
            if slots:
                self._drain.accepted(turn.listener, len(slots))
            else:
                self._close_empty(self._drain, turn.listener)
        self.proceed()

    def take_back_unread(self, worker: WorkerHandle) -> None:
        """See `Acceptor.take_back_unread`."""
        for message in worker.take_unread():
            if message.data[:1] == messages.TURN:
                if worker.turns:  # else the worker has reported a turn that it had not read
                    self._settle(worker, worker.turns.pop(), 0)
            else:
                fds = release(message)
                worker.send(message.data, fds)
                close_all(fds)
        for turn in worker.turns:  # the stuck worker has read these: other workers need not wait for it
            self._close_turn(turn)

    def recover(self, worker: WorkerHandle) -> str:
        """See `Acceptor.recover`."""
        self._ended.remove(worker)
        self.take_back_unread(worker)
        while worker.turns:
            turn = worker.turns.popleft()
            used = self._ledger.accepted[worker.row] - worker.accepted
            self._settle(worker, turn, max(0, min(used, len(turn.slots))))
        if not worker.synced:
            self._connections.settle_offered(worker.row)
        with contextlib.suppress(ProtocolError):  # it is dead already
            self._ended.end_early(worker)
        return describe_lost(self._connections.lose_all(worker.row))

    def adopt_turns(self, worker: WorkerHandle) -> None:
        """A worker has sent SYNCED: settle the turns that a dead dispatcher gave it. It has used them all by now.

        Raises:
            ProtocolError: It has reported the end of a connection that it did not accept.
        """
        self._connections.settle_offered(worker.row)
        worker.accepted = self._ledger.accepted[worker.row]
        self._ended.end_early(worker)

    def _settle(self, worker: WorkerHandle, turn: Turn, used: int) -> None:
        self._close_turn(turn)
        self._connections.settle(turn.slots, used, worker.row)
        worker.accepted += used

    def _close_turn(self, turn: Turn) -> None:
        if not turn.closed:
            turn.closed = True
            self._open_turns[turn.listener] -= 1
