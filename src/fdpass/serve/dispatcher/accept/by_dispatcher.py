"""The dispatcher accepts, and passes each connection to the worker that it chooses."""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fdpass._message import close_all, release
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.accept.balance import NEVER
from fdpass.serve.dispatcher.accept.base import BURST, WINDOW, Accepting, lost
from fdpass.serve.dispatcher.custody import Custody, client_of
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.shared import messages

log = logging.getLogger("fdpass.serve")

_MOST_AT_ONCE = WINDOW // 2  # in a message: while the worker takes one, the next is on its way
_NO_ROOM = {errno.ENOMEM, errno.ENFILE, errno.EMFILE, errno.ENOBUFS}


class _Waiting(NamedTuple):
    """A connection that no worker has.

    Attributes:
        slot: Its slot.
        number: Its descriptor: our own; in custody, the one kept there.
        client: Its address, as accept(2) told.
        read: Bytes of a request that a dead worker had read.
    """

    slot: int
    number: int
    client: Any = None
    read: bytes = b""


class _Group(NamedTuple):
    """What one worker gets in one message."""

    member: WorkerHandle
    credit: int
    ones: list[_Waiting]


class ByDispatcher(Accepting):
    """See `Accepting`, with its parameters.

    Args:
        custody: Where a duplicate of each connection is kept; None closes it as soon as it is passed.
    """

    def __init__(self, *arguments: Any, custody: Custody | None) -> None:
        super().__init__(*arguments, custody=custody)
        self._custody = custody
        self._waiting: deque[_Waiting] = deque()
        self._passed: list[int] = []  # to be closed here

    @property
    def waits(self) -> bool:
        """See `Accepting.waits`."""
        return bool(self._waiting)

    def go_on(self) -> None:
        """See `Accepting.go_on`."""
        if self._waiting:
            self._place()
        if self._drained is not None:
            self._drain()
        elif self._wanted() and not self._waiting:
            if len(self._watching) != len(self._listeners):
                self._watch(range(len(self._listeners)))
        elif self._watching:
            self._watch(())

    def _drain(self) -> None:
        self._hear_again()
        while self._backlogs and self._wanted() and not self._waiting:
            self._accept(next(iter(self._backlogs)))
            self._place()
        self._end_drain(waits=bool(self._waiting))

    def _on_listener(self, index: int) -> None:
        self._hear_again()
        self._accept(index)
        self.go_on()

    def _accept(self, index: int) -> None:
        # socket.accept() is made of _accept(): a number is all that is needed here, and a socket object costs more
        # than the system call.
        accept = self._listeners[index].sock._accept  # type: ignore[attr-defined]  # noqa: SLF001
        accounts, waiting, custody = self._accounts, self._waiting, self._custody
        before = accounts.accepted
        for _ in range(min(BURST, accounts.room)):
            try:
                number, client = accept()
            except BlockingIOError:
                self._backlogs.pop(index, None)
                break
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._no_room(error)
                    break
                log.debug("a client went away before it was accepted: %s", error)
                continue
            slot = accounts.accept()
            if custody is not None:
                custody.keep(slot, number)
            waiting.append(_Waiting(slot, number, client))
        self._drain_some(index, accounts.accepted - before or BURST)

    def _place(self) -> None:
        """Hand over all that wait, or as many as there is credit for.

        Until everybody is refused: only who was refused says when there is room again.
        """
        while self._waiting and self._anybody():
            self._place_some()

    def _place_some(self) -> None:
        """Choose a worker for each that waits, and send each worker its own in one message."""
        waiting, loads, requests, choose = self._waiting, self._loads, self._ledger.requests, self._balance.choose
        groups: dict[int, _Group] = {}
        while waiting and (row := choose(loads, requests, waiting[0].client)) >= 0:
            group = groups.get(row)
            if group is None:
                member = self._members[row]
                credit = min(self._credit(member), self._capacity - member.live, _MOST_AT_ONCE)
                if credit <= 0:
                    continue
                group = groups[row] = _Group(member, credit, [])
            one = waiting.popleft()
            group.ones.append(one)
            loads[row] = group.member.live + len(group.ones) if len(group.ones) < group.credit else NEVER
            if one.read:  # the bytes take a message of their own
                group.ones.pop()
                self._hand(group.member, group.ones)
                self._hand(group.member, [one], messages.replay(one.slot, one.read))
                del groups[row]
        for group in groups.values():
            self._hand(group.member, group.ones)
        if self._passed:
            self._passed.sort()
            close_all(self._passed)  # neighbours, as a rule, and so one system call
            self._passed.clear()

    def _hand(self, member: WorkerHandle, ones: list[_Waiting], data: bytes = b"") -> None:
        if not ones:
            return
        slots = [one.slot for one in ones]
        numbers = [one.number for one in ones]
        if member.send(data or messages.with_slots(messages.HANDOFF, slots), numbers):
            member.live += len(slots)
            member.sent += len(slots)
            self._accounts.hand(slots, member.row)
            self.refresh(member)
            if self._custody is None:
                self._passed += numbers
        else:
            # Its queue is full, or too many descriptors are in flight: `look` tries again.
            self.refuse(member)
            self._waiting.extend(ones)

    def take_back(self, member: WorkerHandle) -> None:
        """See `Accepting.take_back`."""
        for message in member.unread():
            numbers = release(message)
            word = message.data[:1]
            if word == messages.HANDOFF:
                self._have_back(member, list(messages.slots_of(message.data)), numbers)
            elif word == messages.REPLAY:
                slot, read = messages.replayed(message.data)
                self._have_back(member, [slot], numbers, read)
            else:
                member.send(message.data, numbers)
                close_all(numbers)

    def _have_back(self, member: WorkerHandle, slots: list[int], numbers: list[int], read: bytes = b"") -> None:
        member.live -= len(slots)
        member.sent -= len(slots)
        if self._custody is not None:
            close_all(numbers)
            numbers = [self._custody.number(slot) for slot in slots]
        for slot in slots[len(numbers) :]:  # there was no room for them in our table
            self._accounts.lose(slot, member.row)
        for slot, number in zip(slots, numbers, strict=False):
            self._wait(slot, number, read)

    def _wait(self, slot: int, number: int, read: bytes) -> None:
        """A connection that a worker had waits for another."""
        self._accounts.take_back(slot)
        client = client_of(number) if self._balance.by_client else None
        self._waiting.append(_Waiting(slot, number, client, read))

    def give_back(self, member: WorkerHandle, slots: Iterable[int], read: bytes = b"") -> None:
        """A worker lets go of connections, of which it has read no more than this: others shall have them."""
        assert self._custody is not None, "only then it does"
        for slot in slots:
            if not self._accounts.is_of(slot, member.row):
                raise ProtocolError("it gives back a connection that it does not have")
            member.live -= 1
            self._custody.take_back(slot, read)
            self._wait(slot, self._custody.number(slot), read)
        self.refresh(member)
        self.go_on()

    def told(self, member: WorkerHandle, word: bytes, data: bytes) -> bool:
        """See `Accepting.told`."""
        if self._custody is not None and word == messages.RETURNED:
            self.give_back(member, messages.slots_of(data))
        elif self._custody is not None and word == messages.MOVED:
            slot, read = messages.replayed(data)
            self.give_back(member, [slot], read)
        else:
            return super().told(member, word, data)
        return True

    def dropped(self, member: WorkerHandle, slots: Sequence[int]) -> None:
        """See `Accepting.dropped`: in custody they are not lost."""
        if self._custody is None:
            super().dropped(member, slots)
        else:
            self._say_full(member, len(slots))
            self.give_back(member, slots)

    def gone(self, member: WorkerHandle) -> str:
        """See `Accepting.gone`."""
        self._ended.remove(member)
        self.take_back(member)
        if self._custody is None:
            return lost(self._accounts.lose_all(member.row))
        before = self._custody.counts.copy()
        for slot in self._accounts.slots_of(member.row):
            action, read = self._custody.recover(slot, member.map)
            if action is Action.IDLE or action is Action.REPLAY:
                self._wait(slot, self._custody.number(slot), read)
                if len(self._waiting) >= _MOST_AT_ONCE:
                    self._place()  # others begin while the rest is looked at
            elif action is Action.FINISH:
                self._accounts.finish(slot, member.row)
            else:
                self._accounts.lose(slot, member.row)
        counts = self._custody.counts - before
        return "".join(f"; {counts[action]} {action.value}" for action in Action if counts[action])

    def drop(self) -> None:
        """Close what still waits for a worker, at the end."""
        while self._waiting:
            one = self._waiting.popleft()
            if self._custody is None:
                os.close(one.number)
            else:
                self._custody.end([one.slot])
            self._accounts.drop(one.slot)
