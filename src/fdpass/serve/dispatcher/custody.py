"""Custody: the dispatcher's own duplicate of each connection, and what it does with those of a dead worker.

What became of each is asked of the kernel and of its slot, and decided by `recovery`; this file asks and acts.
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
from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher.loop import Loop, Timer
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
_WORD = struct.Struct("=i")
_READING, _WRITING = int(Flag.READING), int(Flag.WRITING)
_REASON = b"The process that worked on this request ended.\n"
_ANSWER = (
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
    % (len(_REASON), _REASON)
)
_LINGER_SECONDS = 2.0  # for a client to read its 502 before the connection is closed
_TOLD = {
    Action.REPLAY: (logging.INFO, "its worker died before it answered the request"),
    Action.ANSWER: (logging.WARNING, "its worker died before it answered the request, which must not be repeated"),
    Action.RESET: (logging.WARNING, "its worker died in the middle of a response"),
    Action.CLOSE: (logging.WARNING, "its worker died, and had a state of it that nobody else has"),
}
_DONTWAIT = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Custody:
    """All connections that workers have.

    Args:
        loop: Event loop; waits for clients to read their 502.
        most: How many there may be.
        replay: As of ``--replay``.

    Attributes:
        memory: The slots; workers have it too. Owned.
        counts: Of dead workers' connections, how many were treated so.
    """

    def __init__(self, loop: Loop, most: int, replay: str) -> None:
        self.replay = replay
        self.counts: Counter[Action] = Counter()
        self._loop = loop
        self._numbers: dict[int, int] = {}
        self._handed: dict[int, tuple[int, bytes]] = {}  # bytes that were handed on, and the BASE they begin at
        self._lingering: dict[int, Timer] = {}
        self.memory = common(SLOT_SIZE * most, name="fdpass-slots")
        self._map = mapped(self.memory)
        self._words = memoryview(self._map).cast("q")
        self._zeros = memoryview(bytes(SLOT_SIZE)).cast("q")

    def keep(self, slot: int, number: int) -> None:
        """A new connection, in a slot: its descriptor is ours from now on."""
        self._numbers[slot] = number
        slot_of(self._words, slot)[:] = self._zeros

    def number(self, slot: int) -> int:
        """Our descriptor of a connection. Lent."""
        return self._numbers[slot]

    def end(self, slots: Iterable[int]) -> None:
        """These have ended: close ours."""
        if self._handed:
            slots = list(slots)
            for slot in slots:
                self._handed.pop(slot, None)
        take = self._numbers.pop
        numbers = [take(slot) for slot in slots]
        numbers.sort()
        close_all(numbers)

    def shut(self, slots: Iterable[int]) -> None:
        """These have ended, but their worker could not shut them down: do, and close ours."""
        slots = list(slots)
        for slot in slots:
            _shutdown(self._numbers[slot])
        self.end(slots)

    def take_back(self, slot: int, read: bytes) -> None:
        """A living worker gives a connection back, of which it has read no more: ready it for the next one."""
        self.counts[Action.IDLE] += 1
        words = self._slot(slot)
        if not is_sane(words):
            raise ProtocolError("it gives back a connection with a slot of nonsense")
        if read or not is_idle(words):
            hand_on(words, Decision(Action.IDLE, words[BASE], words[WRITTEN], attempt=words[ATTEMPT]), read)
        self._remember(slot, read)

    def _slot(self, slot: int) -> memoryview:
        return slot_of(self._words, slot)

    def _remember(self, slot: int, read: bytes) -> None:
        """These bytes are handed on with the connection: until the next worker is done with them they are ours."""
        if read:
            self._handed[slot] = self._words[slot * WORDS + BASE], read
        else:
            self._handed.pop(slot, None)

    def recover(self, slot: int, buffers: mmap.mmap | None) -> tuple[Action, bytes]:
        """A connection whose worker is dead: do with it what the table says.

        Returns:
            What was done; for IDLE and REPLAY another worker has to get it, with these bytes that were read of it.
        """
        number = self._numbers[slot]
        words = self._slot(slot)
        base, ours = self._handed.get(slot, (0, b""))
        if base != words[BASE]:
            ours = b""  # the worker was done with them
        if is_idle(words) and not ours:
            self.counts[Action.IDLE] += 1
            return Action.IDLE, b""
        facts = self._facts(words, number)
        agreed = facts.read is None or agrees(words, facts.read, buffers)
        decision = decide(words, facts._replace(ours=len(ours), agreed=agreed), self.replay)
        self.counts[decision.action] += 1
        if decision.action in _TOLD:
            level, reason = _TOLD[decision.action]
            log.log(level, "connection %d: %s: %s", slot, decision.action.value, reason)
        if decision.action is Action.IDLE or decision.action is Action.REPLAY:
            read = kept_of(words, decision, buffers, ours)
            hand_on(words, decision, read)
            self._remember(slot, read)
            return decision.action, read
        if decision.action is Action.ANSWER:
            del self._numbers[slot]
            self._remember(slot, b"")
            self._answer(number)
        elif decision.action is Action.RESET:
            reset(number)
            self.end([slot])
        else:
            self.shut([slot])
        return decision.action, b""

    def _facts(self, words: memoryview, number: int) -> Facts:
        try:
            info, unread, unacked = _counters(number)
        except OSError:  # EOPNOTSUPP: a Unix socket, of which the kernel keeps no counters
            flags = words[FLAGS]
            read = None if flags & _READING else words[READ]
            return Facts(not has_ended(number), read, None if flags & _WRITING else words[WROTE])
        state, acked, received = info
        if state not in {_ESTABLISHED, _CLOSE_WAIT}:
            return Facts(False, None, None)
        # The peer's FIN is counted as if it were a byte.
        return Facts(True, received - unread - (state == _CLOSE_WAIT), acked + unacked)

    def _answer(self, number: int) -> None:
        """Send 502, and close it when the client has ended its side: unread bytes would make a reset of it."""
        with _borrowed(number) as sock, contextlib.suppress(OSError):
            sock.send(_ANSWER, _DONTWAIT)
            sock.shutdown(socket.SHUT_WR)
        self._lingering[number] = self._loop.call_later(_LINGER_SECONDS, lambda: self._let_go(number))
        self._loop.watch(number, lambda: self._drain(number))

    def _drain(self, number: int) -> None:
        with _borrowed(number) as sock:
            try:
                while sock.recv(65536, _DONTWAIT):
                    pass
            except BlockingIOError:
                return
            except OSError:
                pass
        self._let_go(number)

    def _let_go(self, number: int) -> None:
        self._lingering.pop(number).cancel()
        self._loop.unwatch(number)
        os.close(number)

    def close(self) -> None:
        """Close every connection, and the slots."""
        for number in list(self._lingering):
            self._let_go(number)
        self.end(list(self._numbers))
        self._words.release()
        self._map.close()
        self.memory.close()


def kept_of(words: memoryview, decision: Decision, buffers: mmap.mmap | None, ours: bytes) -> bytes:
    """The bytes that the next worker has to be handed.

    Args:
        words: The slot, as the dead worker left it.
        decision: IDLE or REPLAY.
        buffers: The dead worker's.
        ours: What this worker was handed.
    """
    if decision.action is Action.IDLE:
        return b""
    if not decision.stop:
        return ours
    assert buffers is not None, "a request is in a buffer"
    start = (words[BUFFER] - 1) * BUFFER_SIZE
    return buffers[start + decision.start : start + decision.stop]


def hand_on(words: memoryview, decision: Decision, read: bytes) -> None:
    """Make a slot ready for the next worker, who is handed these bytes."""
    words[BUFFER] = 0
    words[ATTEMPT] = decision.attempt
    words[FLAGS] &= Flag.STREAM
    words[BASE] = words[ORIGIN] = decision.base
    words[READ] = decision.base + len(read)
    words[WRITTEN] = decision.written
    words[FINAL_END] = 0


@contextlib.contextmanager
def _borrowed(number: int) -> Iterator[socket.socket]:
    """A descriptor as a socket object that leaves it open."""
    # What is told is not asked of the kernel; for what is done here it need not be true.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)
    try:
        yield sock
    finally:
        sock.detach()


def _shutdown(number: int) -> None:
    with _borrowed(number) as sock, contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _counters(number: int) -> tuple[tuple[int, int, int], int, int]:
    """TCP's state, bytes acknowledged and received, and what is unread and unacknowledged: all of one moment.

    Each is asked for by itself, and packets arrive in between: an acknowledgement would make of a response that is
    out one that never was. So it is asked again until nothing has moved; every packet moves one of them.
    """
    with _borrowed(number) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        while True:
            unread, unacked = _ioctl(number, termios.FIONREAD), _ioctl(number, termios.TIOCOUTQ)
            before, info = info, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
            found = _INFO.unpack(info)
            if found == _INFO.unpack(before):
                return found, unread, unacked


def _ioctl(number: int, request: int) -> int:
    found: int = _WORD.unpack(fcntl.ioctl(number, request, bytes(_WORD.size)))[0]
    return found


def client_of(number: int) -> Any:
    """The address at the other end of a connection; None if it has none any more."""
    try:
        with socket.socket(fileno=os.dup(number)) as sock:
            return sock.getpeername()
    except OSError:
        return None
