"""`Link`: the loop's side of a `Connection`: reads into shared memory, and keeps the slot true."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER_SIZE,
    FINAL,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    POSITION,
    SECOND,
    STATE_MAX,
    STATE_WORDS,
    STATES,
    WRITTEN,
    Flag,
)
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import NOWHERE, Reader, nowhere
from fdpass.serve.worker.custody.writer import Writer
from fdpass.serve.worker.passed_socket import PassedSocket

AHEAD_MAX = BUFFER_SIZE // 2
"""Bytes that came and were not read yet, at most; more wait in the kernel."""

_DRAIN_SECONDS = 0.01  # until bytes that wait in the transport are looked at again
_STREAM = int(Flag.STREAM)


class Moved(BaseException):
    """The connection goes on in another worker, and the handler here ends. Clean up in finally."""


class Keeper(Protocol):
    """What a connection needs of the engine that serves it.

    Attributes:
        buffers: Of this worker.
        scratch: Where to read when no buffer is free.
    """

    buffers: Buffers
    scratch: memoryview


class Link(asyncio.BufferedProtocol):
    """The loop's side of a `Connection`: reads into shared memory, and keeps the slot true.

    Args:
        keeper: The engine.
        passed: The socket.
        words: Its slot; None if it is not in custody.
    """

    def __init__(self, keeper: Keeper, passed: PassedSocket, words: memoryview | None) -> None:
        self.passed = passed
        self.kept = words is not None
        self.words = nowhere() if words is None else words
        self.words[FLAGS] |= _STREAM
        self.client = passed.client
        self.ahead = bytearray(passed.read)
        self.ended = self.lost = self.leaving = False
        self._transport: Any = None
        marks = passed.is_unix
        self._intake = Reader(self.words, keeper.buffers, keeper.scratch, marks=marks)
        self._outlet = Writer(self.words, marks=marks)
        if passed.read:
            self._intake.begin(passed.read)
            self._intake.read += len(passed.read)
        self._event = asyncio.Event()
        self._clear = asyncio.Event()
        self._clear.set()

    @property
    def state(self) -> bytes:
        """The state in force."""
        start = STATES + (STATE_WORDS if self.words[WRITTEN] & SECOND else 0)
        return self.words[start + 1 : start + STATE_WORDS].tobytes()[: self.words[start]]

    @property
    def settled(self) -> bool:
        """Nothing was read or written since the last commit."""
        return self._consumed == self.words[BASE] and self._outlet.wrote == self.words[WRITTEN] & POSITION

    @property
    def _consumed(self) -> int:
        return self._intake.read - len(self.ahead)

    def take(self, count: int) -> bytes:
        """Of what has come, so much for the handler."""
        data = bytes(self.ahead[:count])
        del self.ahead[:count]
        self.pace()
        return data

    def pace(self) -> None:
        """Read on, or let the kernel keep what comes: what waits for the handler has a bound."""
        if not (self.ended or self.lost):
            if len(self.ahead) < AHEAD_MAX:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    async def more(self) -> None:
        """Until something has come, or ended; or the connection shall move, and can."""
        if self.leaving and self.kept and self.settled:
            raise Moved
        if self.lost:
            raise ConnectionResetError("the connection was lost")
        self._event.clear()
        await self._event.wait()

    async def drained(self) -> None:
        """Until the client takes more."""
        await self._clear.wait()
        if self.lost:
            raise ConnectionResetError("the connection was lost")

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._outlet.write(data)

    async def commit(self, state: bytes, reply: bytes) -> None:
        """See `Connection.commit`, and `slots` for the order."""
        words = self.words
        second = 0 if words[WRITTEN] & SECOND else SECOND
        start = STATES + (STATE_WORDS if second else 0)
        words[start + 1 : start + STATE_WORDS] = memoryview(state.ljust(STATE_MAX, b"\0")).cast("q")
        words[start] = len(state)
        words[FINAL_BASE] = self._consumed
        words[FINAL_END] = self._outlet.wrote + len(reply) | second | FINAL
        if reply:
            self.send(reply)
        while not self.lost and not self._outlet.drained:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(_DRAIN_SECONDS)
        self._outlet.mark()
        words = self.words  # of no connection, if this one was lost meanwhile
        words[ATTEMPT] = 0
        words[BASE] = words[FINAL_BASE]
        words[WRITTEN] = words[FINAL_END] & ~FINAL
        words[FINAL_END] = 0
        if not self.ahead:
            self._intake.release()
            words[FLAGS] = _STREAM
        elif not self.lost and not len(self.ahead) <= self._intake.used <= AHEAD_MAX:
            self._intake.exchange(bytes(self.ahead))
        await self.drained()

    def check_movable(self) -> None:
        """See `Connection.move`."""
        if not self.kept:
            raise RuntimeError("this connection is not in custody: it cannot move")
        if not self.settled:
            raise RuntimeError("commit before you move: something was read or written since the last commit")

    def leave(self) -> None:
        """The worker retires: move as soon as the handler waits for the client, with all committed."""
        self.leaving = True
        self._event.set()

    def let_go(self) -> None:
        """The handler has ended because the connection moves."""
        self.passed.returned = True
        self.passed.read = bytes(self.ahead)
        self.passed.let_go = self._intake.forget
        self._transport.pause_reading()
        self._transport.abort()

    def close(self) -> None:
        """The handler has ended."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """The handler has failed: a cut answer must not pass for a whole one."""
        if self._transport is not None:
            self.passed.reset()
            self._transport.abort()

    # From the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = self._outlet.transport = transport
        if self.client is None:
            self.client = transport.get_extra_info("peername")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - a buffer is as large as it is
        """See `asyncio.BufferedProtocol`: so much that all that waits for the handler fits into one buffer."""
        return self._intake.place()[: BUFFER_SIZE - AHEAD_MAX]

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self.ahead += self._intake.came(nbytes)
        if len(self.ahead) >= AHEAD_MAX:
            self._transport.pause_reading()
        self._event.set()

    def eof_received(self) -> bool:
        """See `asyncio.BufferedProtocol`: the other direction stays open."""
        self._intake.came(0)  # the loop has asked where to read
        self.ended = True
        self._event.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the handler learns that it is lost
        """See `asyncio.BaseProtocol`."""
        if not self.passed.returned:
            self.passed.shut_down()
            self._intake.forget()
        self.words = NOWHERE
        self._outlet.forget(self.words)
        self.lost = self.ended = True
        self._event.set()
        self._clear.set()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._clear.clear()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._clear.set()
