"""`Link`: the protocol object of a `Connection`: reads into shared memory, and keeps the slot true."""

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
    WRITTEN,
    Flag,
)
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import NOWHERE, Reader, nowhere
from fdpass.serve.worker.custody.state import load_state, store_state
from fdpass.serve.worker.custody.writer import Writer
from fdpass.serve.worker.passed_socket import PassedSocket

UNREAD_MAX = BUFFER_SIZE // 2
"""At most so many received bytes wait for the handler; more stay in the kernel."""

_DRAIN_SECONDS = 0.01  # between two looks at whether the transport's buffer is empty
_STREAM = int(Flag.STREAM)


class Moved(BaseException):
    """The connection goes on in another worker, and the handler here ends. Clean up in finally."""


class LinkEngine(Protocol):
    """What a link needs of the engine that serves its connection.

    Attributes:
        buffers: The worker's receive buffers.
        scratch: Where to read when no buffer is free.
    """

    buffers: Buffers
    scratch: memoryview


class Link(asyncio.BufferedProtocol):
    """The protocol object of a `Connection`.

    Args:
        engine: Serves the connection.
        passed: The connection's socket.
        words: The connection's slot; None without custody.

    Attributes:
        words: The slot; a slot of no connection (`NOWHERE`) once the connection is lost.
        client: The client's address.
        unread: Bytes that were received, and that the handler has not read.
        eof: The client has ended its side, or the connection is lost.
        lost: The connection is lost.
    """

    def __init__(self, engine: LinkEngine, passed: PassedSocket, words: memoryview | None) -> None:
        self._passed = passed
        self._in_custody = words is not None
        self.words = nowhere() if words is None else words
        self.words[FLAGS] |= _STREAM
        self.client = passed.client
        self.unread = bytearray(passed.read)
        self.eof = self.lost = False
        self._move_when_settled = False
        self._transport: Any = None
        marks = passed.is_unix
        self._reader = Reader(self.words, engine.buffers, engine.scratch, marks=marks)
        self._writer = Writer(self.words, marks=marks)
        if passed.read:
            self._reader.begin(passed.read)
            self._reader.read += len(passed.read)
        self._changed = asyncio.Event()  # wakes a handler that waits for data
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def state(self) -> bytes:
        """The state of the last commit."""
        return load_state(self.words)

    @property
    def settled(self) -> bool:
        """Nothing was read or written since the last commit."""
        return self._handled == self.words[BASE] and self._writer.wrote == self.words[WRITTEN] & POSITION

    @property
    def _handled(self) -> int:
        """The position up to which the handler has read."""
        return self._reader.read - len(self.unread)

    # For the handler

    def take(self, count: int) -> bytes:
        """Give the handler ``count`` of the unread bytes."""
        data = bytes(self.unread[:count])
        del self.unread[:count]
        self.limit_reading()
        return data

    def limit_reading(self) -> None:
        """Pause reading while `UNREAD_MAX` bytes are unread; else resume it."""
        if not (self.eof or self.lost):
            if len(self.unread) < UNREAD_MAX:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    async def wait_for_data(self) -> None:
        """Wait until bytes have come, or the client has ended its side.

        Raises:
            Moved: The worker retires, and the connection can move now.
            ConnectionResetError: The connection was lost.
        """
        if self._move_when_settled and self._in_custody and self.settled:
            raise Moved
        if self.lost:
            raise ConnectionResetError("the connection was lost")
        self._changed.clear()
        await self._changed.wait()

    async def wait_until_writable(self) -> None:
        """Wait while the client is slow. Raises ConnectionResetError if the connection was lost."""
        await self._writable.wait()
        if self.lost:
            raise ConnectionResetError("the connection was lost")

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    async def commit(self, state: bytes, reply: bytes) -> None:
        """See `Connection.commit`, and `slots` for the order of stores."""
        words = self.words
        second = store_state(words, state)
        words[FINAL_BASE] = self._handled
        words[FINAL_END] = self._writer.wrote + len(reply) | second | FINAL
        if reply:
            self.write(reply)
        while not self.lost and not self._writer.drained:  # noqa: ASYNC110 - the loop's transports have no event for it
            await asyncio.sleep(_DRAIN_SECONDS)
        self._writer.mark()
        words = self.words  # NOWHERE, if the connection was lost meanwhile
        words[ATTEMPT] = 0
        words[BASE] = words[FINAL_BASE]
        words[WRITTEN] = words[FINAL_END] & ~FINAL
        words[FINAL_END] = 0
        if not self.unread:
            self._reader.release()
            words[FLAGS] = _STREAM
        elif not self.lost and not len(self.unread) <= self._reader.used <= UNREAD_MAX:
            self._reader.exchange(bytes(self.unread))
        await self.wait_until_writable()

    def check_movable(self) -> None:
        """See `Connection.move`."""
        if not self._in_custody:
            raise RuntimeError("this connection is not in custody: it cannot move")
        if not self.settled:
            raise RuntimeError("commit before you move: something was read or written since the last commit")

    # For the engine

    def move_when_settled(self) -> None:
        """The worker retires: move as soon as the handler waits for the client and has committed everything."""
        self._move_when_settled = True
        self._changed.set()

    def move(self) -> None:
        """Return the connection to the dispatcher: the handler has ended with `Moved`."""
        self._passed.returned = True
        self._passed.read = bytes(self.unread)
        self._passed.on_returned = self._reader.forget
        self._transport.pause_reading()
        self._transport.abort()

    def close(self) -> None:
        """End the connection: the handler has ended."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Reset the connection: the handler has failed, and a cut answer must not pass for a whole one."""
        if self._transport is not None:
            self._passed.reset()
            self._transport.abort()

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = self._writer.transport = transport
        if self.client is None:
            self.client = transport.get_extra_info("peername")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - a buffer has its own size
        """See `asyncio.BufferedProtocol`. So short that all unread bytes fit into one buffer afterwards."""
        return self._reader.place()[: BUFFER_SIZE - UNREAD_MAX]

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self.unread += self._reader.came(nbytes)
        if len(self.unread) >= UNREAD_MAX:
            self._transport.pause_reading()
        self._changed.set()

    def eof_received(self) -> bool:
        """See `asyncio.BufferedProtocol`: the other direction stays open."""
        self._reader.came(0)  # ends the read that `get_buffer` has begun
        self.eof = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the handler gets ConnectionResetError
        """See `asyncio.BaseProtocol`."""
        if not self._passed.returned:
            self._passed.shut_down()
            self._reader.forget()
        self.words = NOWHERE
        self._writer.forget(self.words)
        self.lost = self.eof = True
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._writable.set()
