"""The workers accept: the dispatcher watches the listeners, and tells the chosen worker to accept so many.

A listener is not watched while a turn at it is open, else it would be reported again and again. A turn ends
when its worker says what it accepted, dies, or is stuck.
"""

from __future__ import annotations

import socket
import sys
from collections import Counter
from typing import Any

from fdpass._message import close_all, release
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.accept.base import BURST, MOST_DRAINED, Accepting, lost
from fdpass.serve.dispatcher.pool.worker_handle import Turn, WorkerHandle
from fdpass.serve.shared import messages

_TCP_INFO_UNACKED = 24  # offset in struct tcp_info (linux/tcp.h): of a listener, the connections that wait


class ByWorker(Accepting):
    """See `Accepting`, with its parameters."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: Counter[int] = Counter()  # turns at each listener

    def go_on(self) -> None:
        """See `Accepting.go_on`."""
        if self._drained is not None:
            self._drain()
        else:
            self._watch(index for index in range(len(self._listeners)) if self._wanted() and not self._open[index])

    def _drain(self) -> None:
        for index in list(self._backlogs):
            if not (self._queued(index) or self._open[index]):
                self._backlogs.pop(index, None)
            elif self._wanted() and not self._open[index]:
                self._on_listener(index)
        self._end_drain(waits=any(self._open[index] for index in self._backlogs))

    def _on_listener(self, index: int) -> None:
        self._hear_again()
        groups: dict[WorkerHandle, list[int]] = {}
        for _ in range(min(BURST, self._accounts.room, max(1, self._queued(index)))):
            # Whose connection comes next is not known before it is accepted: hash takes turns here.
            row = self._balance.choose(self._loads, self._ledger.requests, None)
            if row < 0:
                break
            member = self._members[row]
            if member not in groups and self._credit(member) <= 0:
                continue
            groups.setdefault(member, []).append(self._accounts.offer())
            member.live += 1
            self.refresh(member)
        for member, slots in groups.items():
            self._give(member, Turn(index, slots))
        self.go_on()

    def _queued(self, index: int) -> int:
        sock = self._listeners[index].sock
        if sock.family == socket.AF_UNIX:
            return 1  # nothing tells how many
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_UNACKED + 4)
        return int.from_bytes(info[_TCP_INFO_UNACKED:], sys.byteorder)

    def _give(self, member: WorkerHandle, turn: Turn) -> None:
        if member.send(messages.with_slots(messages.TURN, [turn.listener, *turn.slots])):
            member.turns.append(turn)
            self._open[turn.listener] += 1
        else:
            self._accounts.settle(turn.slots, 0, member.row)
            member.live -= len(turn.slots)
            self.refuse(member)

    def told(self, member: WorkerHandle, word: bytes, data: bytes) -> bool:
        """See `Accepting.told`."""
        if word != messages.ACCEPTED:
            return super().told(member, word, data)
        self.took(member, list(messages.slots_of(data)))
        return True

    def took(self, member: WorkerHandle, slots: list[int]) -> None:
        """A worker says which of its slots it used.

        Raises:
            ProtocolError: It had no turn, or not with these.
        """
        if not member.turns or member.turns[0].slots[: len(slots)] != slots:
            raise ProtocolError("it accepted without having a turn")
        turn = member.turns.popleft()
        self._settle(member, turn, len(slots))
        self._drain_some(turn.listener, len(slots) or MOST_DRAINED)  # none: there are no more
        self.go_on()

    def take_back(self, member: WorkerHandle) -> None:
        """See `Accepting.take_back`."""
        for message in member.unread():
            if message.data[:1] == messages.TURN:
                self._settle(member, member.turns.pop(), 0)
            else:
                numbers = release(message)
                member.send(message.data, numbers)
                close_all(numbers)
        for turn in member.turns:  # it has read these, and does not move: others go on
            self._end(turn)

    def gone(self, member: WorkerHandle) -> str:
        """See `Accepting.gone`."""
        self._ended.remove(member)
        self.take_back(member)
        while member.turns:
            turn = member.turns.popleft()
            used = self._ledger.accepted[member.row] - member.known
            self._settle(member, turn, max(0, min(used, len(turn.slots))))
        return lost(self._accounts.lose_all(member.row))

    def _settle(self, member: WorkerHandle, turn: Turn, used: int) -> None:
        self._end(turn)
        self._accounts.settle(turn.slots, used, member.row)
        member.known += used
        member.live -= len(turn.slots) - used
        self.refresh(member)

    def _end(self, turn: Turn) -> None:
        if not turn.ended:
            turn.ended = True
            self._open[turn.listener] -= 1
