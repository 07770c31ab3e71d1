"""`Custody`: the dispatcher's own duplicate of each connection, and what it does with those of a dead worker.

This file reads the slot and the kernel's counters, `recovery` decides by them, and this file acts on the decision.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import socket
import struct
import termios
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from fdpass._memory import common, mapped
from fdpass._message import close_all
from fdpass._supervision.loop import Loop, Timer
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.lost_request import (
    REASON_502,
    RESPONSE_502,
    begun,
    client_of,
    named,
    scope_of,
)
from fdpass.serve.dispatcher.recovery import Action, Decision, Facts, agrees, decide, is_idle, is_sane
from fdpass.serve.shared.reset import has_ended, reset
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    BUFFER_SIZE,
    FINAL_END,
    FLAGS,
    ORIGIN,
    READ,
    SLOT_SIZE,
    WORDS,
    WRITTEN,
    WROTE,
    Flag,
    slot_of,
)

log = logging.getLogger("fdpass.serve")

_INFO = struct.Struct("=B119xQQ")  # struct tcp_info (linux/tcp.h): state, bytes_acked, bytes_received
_ESTABLISHED, _CLOSE_WAIT = 1, 8  # include/net/tcp_states.h
_INT = struct.Struct("=i")
_ZEROS = bytes(SLOT_SIZE)
_READING, _WRITING = int(Flag.READING), int(Flag.WRITING)
_LINGER_SECONDS = 2.0  # for a client to read its 502 before the connection is closed
_LOGGED = {
    Action.REPLAY: (logging.INFO, "its worker died before it answered the request"),
    Action.ANSWER: (logging.WARNING, "its worker died before it answered the request, "),
    Action.RESET: (logging.WARNING, "its worker died in the middle of a response"),
    Action.CLOSE: (logging.WARNING, "its worker died, and no other process has its state"),
}
_DONTWAIT = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Custody:
    """All connections that workers have, and those that wait for a worker.

    Args:
        loop: Event loop; waits for clients to read their 502.
        most: How many connections there can be.
        replay: As of ``--replay``.

    Attributes:
        memory: The slots; workers have this memory too. Owned.
        answered: The requests that were answered with a 502, as scopes of ASGI; for `take_answered`.
        counts: For each action, how many connections of dead workers it was done with; IDLE also counts those that
            living workers gave back.
    """

    def __init__(self, loop: Loop, most: int, replay: str) -> None:
        self.replay = replay
        self.counts: Counter[Action] = Counter()
        self.answered: list[dict[str, Any]] = []
        self._loop = loop
        self._fds: dict[int, int] = {}  # of each slot in use, the dispatcher's descriptor
        self._handed: dict[int, tuple[int, bytes]] = {}  # by slot: bytes handed on, and their BASE
        self._lingering: dict[int, Timer] = {}  # by descriptor: clients that may still read their 502
        self.memory = common(SLOT_SIZE * most, name="fdpass-slots")
        self._map = mapped(self.memory)
        self._words = memoryview(self._map).cast("q")

    def keep(self, slot: int, fd: int) -> None:
        """Keep the descriptor of a new connection, and clear its slot. The descriptor is given."""
        self._fds[slot] = fd
        start = slot * SLOT_SIZE
        self._map[start : start + SLOT_SIZE] = _ZEROS

    def fd(self, slot: int) -> int:
        """The dispatcher's descriptor of a connection. Lent."""
        return self._fds[slot]

    def end(self, slots: Iterable[int]) -> None:
        """Close the descriptors of connections that have ended."""
        if self._handed:
            slots = list(slots)
            for slot in slots:
                self._handed.pop(slot, None)
        take = self._fds.pop
        fds = [take(slot) for slot in slots]
        fds.sort()
        close_all(fds)

    def shut_down(self, slots: Iterable[int]) -> None:
        """Shut connections down that no worker can shut down any more, and close their descriptors."""
        slots = list(slots)
        for slot in slots:
            _shut_down(self._fds[slot])
        self.end(slots)

    def take_back(self, slot: int, read: bytes) -> None:
        """Prepare the slot of a connection that a living worker gives back.

        Args:
            slot: The slot.
            read: What the worker has read of the connection from BASE on.

        Raises:
            ProtocolError: The slot holds impossible values.
        """
        self.counts[Action.IDLE] += 1
        words = self._slot(slot)
        if not is_sane(words):
            raise ProtocolError("it gives back a connection with a slot of nonsense")
        if read or not is_idle(words):
            prepare_slot(words, Decision(Action.IDLE, words[BASE], words[WRITTEN], attempt=words[ATTEMPT]), read)
        self._remember(slot, read)

    def _slot(self, slot: int) -> memoryview:
        return slot_of(self._words, slot)

    def _remember(self, slot: int, read: bytes) -> None:
        """Keep bytes that are handed on with a connection, until the next worker has moved BASE beyond them."""
        if read:
            self._handed[slot] = self._words[slot * WORDS + BASE], read
        else:
            self._handed.pop(slot, None)

    def recover(self, slot: int, buffers: mmap.mmap | None) -> tuple[Action, bytes]:
        """Decide about a connection of a dead worker, and do what was decided.

        Args:
            slot: The slot.
            buffers: The dead worker's receive buffers.

        Returns:
            What was done; for IDLE and REPLAY also the bytes that the next worker has to be handed.
        """
        fd = self._fds[slot]
        words = self._slot(slot)
        base, handed = self._handed.get(slot, (0, b""))
        if base != words[BASE]:
            handed = b""  # the worker had moved BASE beyond them
        if is_idle(words) and not handed:
            self.counts[Action.IDLE] += 1
            return Action.IDLE, b""
        facts = self._facts(words, fd)
        agreed = facts.read is None or agrees(words, facts.read, buffers)
        decision = decide(words, facts._replace(handed=len(handed), agreed=agreed), self.replay)
        self.counts[decision.action] += 1
        scope: dict[str, Any] = {}
        if decision.action in _LOGGED:
            level, reason = _LOGGED[decision.action]
            scope = scope_of(words, client_of(fd), begun(words, buffers) or handed)
            what = f"{reason}{decision.reason}: {named(scope)}"
            log.log(level, "connection %d: %s: %s", slot, decision.action.value, what)
        if decision.action is Action.IDLE or decision.action is Action.REPLAY:
            read = bytes_to_hand(words, decision, buffers, handed)
            prepare_slot(words, decision, read)
            self._remember(slot, read)
            return decision.action, read
        if decision.action is Action.ANSWER:
            self._answer_502(slot, scope)
        elif decision.action is Action.RESET:
            reset(fd)
            self.end([slot])
        else:
            self.shut_down([slot])
        return decision.action, b""

    def _facts(self, words: memoryview, fd: int) -> Facts:
        try:
            info, unread, unacknowledged = _counters(fd)
        except OSError:  # EOPNOTSUPP: the kernel keeps no counters of Unix sockets, so the slot's words count
            flags = words[FLAGS]
            read = None if flags & _READING else words[READ]
            return Facts(not has_ended(fd), read, None if flags & _WRITING else words[WROTE])
        state, acknowledged, received = info
        if state not in {_ESTABLISHED, _CLOSE_WAIT}:
            return Facts(False, None, None)
        # The kernel counts the peer's FIN as one received byte.
        return Facts(True, received - unread - (state == _CLOSE_WAIT), acknowledged + unacknowledged)

    def give_up(self, slot: int, read: bytes) -> None:
        """End a connection that waits for a worker, though none will come; a request in it gets a 502."""
        words = self._slot(slot)
        if not read or words[FLAGS] & Flag.STREAM:
            self.end([slot])
            return
        scope = scope_of(words, client_of(self._fds[slot]), read)
        log.warning("connection %d: answered 502: no worker is left for the request: %s", slot, named(scope))
        self._answer_502(slot, scope)

    def _answer_502(self, slot: int, scope: dict[str, Any]) -> None:
        """Send a 502, and close the connection when the client has ended its side.

        A close(2) while bytes are unread would send a reset, and the client could lose the response.
        """
        fd, to_head = self._fds.pop(slot), scope["method"] == "HEAD"
        self._remember(slot, b"")
        self.answered.append(scope)
        with _borrowed(fd) as sock, contextlib.suppress(OSError):
            sock.send(RESPONSE_502[: -len(REASON_502) or None] if to_head else RESPONSE_502, _DONTWAIT)
            sock.shutdown(socket.SHUT_WR)
        self._lingering[fd] = self._loop.call_later(_LINGER_SECONDS, lambda: self._end_lingering(fd))
        self._loop.watch(fd, lambda: self._discard_unread(fd))

    def _discard_unread(self, fd: int) -> None:
        with _borrowed(fd) as sock:
            try:
                more = sock.recv(65536, _DONTWAIT)  # once: a client that sends fast must not keep the loop
            except BlockingIOError:
                return
            except OSError:
                more = b""
        if not more:
            self._end_lingering(fd)

    def _end_lingering(self, fd: int) -> None:
        self._lingering.pop(fd).cancel()
        self._loop.unwatch(fd)
        os.close(fd)

    def close(self) -> None:
        """Close every connection, and the slots."""
        for fd in list(self._lingering):
            self._end_lingering(fd)
        self.end(list(self._fds))
        self._words.release()
        self._map.close()
        self.memory.close()


def bytes_to_hand(words: memoryview, decision: Decision, buffers: mmap.mmap | None, handed: bytes) -> bytes:
    """The bytes that the next worker has to be handed with a connection.

    Args:
        words: The slot, as the dead worker left it.
        decision: IDLE or REPLAY.
        buffers: The dead worker's receive buffers.
        handed: The bytes that the dead worker was handed.
    """
    if decision.action is Action.IDLE:
        return b""
    if not decision.stop:
        return handed
    assert buffers is not None, "a request is in a buffer"
    start = (words[BUFFER] - 1) * BUFFER_SIZE
    return buffers[start + decision.start : start + decision.stop]


def prepare_slot(words: memoryview, decision: Decision, read: bytes) -> None:
    """Prepare a slot for the next worker, which is handed the bytes of ``read``."""
    words[BUFFER] = 0
    words[ATTEMPT] = decision.attempt
    words[FLAGS] &= Flag.STREAM
    words[BASE] = words[ORIGIN] = decision.base
    words[READ] = decision.base + len(read)
    words[WRITTEN] = decision.written
    words[FINAL_END] = 0


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """A descriptor as a socket object that leaves it open."""
    # Family and kind given here save the system calls that would find them; the calls below work with wrong ones.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def _shut_down(fd: int) -> None:
    with _borrowed(fd) as sock, contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _counters(fd: int) -> tuple[tuple[int, int, int], int, int]:
    """TCP's state, bytes acknowledged and received; bytes unread and unacknowledged: all of one moment.

    Three system calls ask for them, and a packet can arrive in between: an acknowledgement could make it seem that
    a response that was sent was never written. Every packet changes TCP_INFO, so the calls are repeated until
    TCP_INFO is the same before and after the others.
    """
    with _borrowed(fd) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        while True:
            unread, unacknowledged = _ioctl(fd, termios.FIONREAD), _ioctl(fd, termios.TIOCOUTQ)
            before, info = info, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
            counters = _INFO.unpack(info)
            if counters == _INFO.unpack(before):
                return counters, unread, unacknowledged


def _ioctl(fd: int, request: int) -> int:
    value: int = _INT.unpack(fcntl.ioctl(fd, request, bytes(_INT.size)))[0]
    return value
