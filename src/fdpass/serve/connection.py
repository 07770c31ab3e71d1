"""`Connection`: what ``async def handle(conn)`` serves: a stream whose small state outlives the worker.

Between two commits nothing counts: if the worker dies, another worker's handler has the state of the last commit,
and reads again what came after it. So what is read, what is written, and the state change together, or not at all.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fdpass.serve.intake import NOWHERE, Intake, nowhere
from fdpass.serve.keeper import Keeper
from fdpass.serve.outlet import Outlet
from fdpass.serve.passed import PassedSocket
from fdpass.serve.slots import (
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

_AHEAD_MAX = BUFFER_SIZE // 2  # bytes that came and were not read yet: more wait in the kernel
_DRAIN_SECONDS = 0.01  # until bytes that wait in the transport are looked at again
_STREAM = int(Flag.STREAM)


class Moved(BaseException):
    """The connection goes on in another worker, and the handler here ends. Clean up in finally."""


class Connection:
    """A stream in custody.

    Attributes:
        client: The client's address.
        state: What was committed last, by this worker or another: up to 64 bytes; b"" at first.
        attempt: How many workers have died since the last commit.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.client: Any = link.client
        self.state = link.state
        self.attempt: int = link.words[ATTEMPT]

    async def read(self, most: int = 65536) -> bytes:
        """Up to so many bytes, 1 at least; b"" at the end of what the client sends.

        Raises:
            ConnectionError: The connection was lost.
        """
        link = self._link
        while not link.ahead and not link.ended:
            await link.more()
        return link.take(min(most, len(link.ahead)))

    async def readline(self) -> bytes:
        """Up to and with the next newline; what is left if the client ends without one; b"" at the end.

        Raises:
            ValueError: A line is longer than 30 KiB.
            ConnectionError: The connection was lost.
        """
        link = self._link
        while (end := link.ahead.find(b"\n") + 1) == 0 and not link.ended:
            if len(link.ahead) >= _AHEAD_MAX:
                raise ValueError(f"a line is longer than {_AHEAD_MAX} bytes")
            await link.more()
        return link.take(end or len(link.ahead))

    async def readexactly(self, count: int) -> bytes:
        """So many bytes: up to 30 KiB.

        Raises:
            asyncio.IncompleteReadError: The client ended before.
            ValueError: More is asked for than is kept.
            ConnectionError: The connection was lost.
        """
        link = self._link
        if count > _AHEAD_MAX:
            raise ValueError(f"at most {_AHEAD_MAX} bytes can be read at once, not {count}")
        while len(link.ahead) < count:
            if link.ended:
                raise asyncio.IncompleteReadError(link.take(len(link.ahead)), count)
            await link.more()
        return link.take(count)

    async def write(self, data: bytes) -> None:
        """Send bytes that belong to no commit: if the worker dies after this and before the next commit, the
        connection is reset. Waits while the client is slow.

        Raises:
            ConnectionError: The connection was lost.
        """
        self._link.send(data)
        await self._link.drained()

    async def commit(self, state: bytes, reply: bytes = b"") -> None:
        """What was read so far is done with, ``reply`` goes out, and the state is this: all of it, or nothing.

        Args:
            state: Up to 64 bytes.
            reply: Bytes to send.

        Raises:
            ValueError: The state is too long.
            ConnectionError: The connection was lost.
        """
        if len(state) > STATE_MAX:
            raise ValueError(f"a state has at most {STATE_MAX} bytes, not {len(state)}")
        self.state = bytes(state)
        self.attempt = 0
        await self._link.commit(self.state, reply)

    async def move(self) -> None:
        """Go on in another worker's handler, with the state of the last commit. Does not return.

        Raises:
            RuntimeError: The connection is not in custody (``--custody off``, TLS), or something was read or
                written since the last commit.
        """
        self._link.check_movable()
        raise Moved


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
        self._intake = Intake(self.words, keeper.buffers, keeper.scratch, marks=marks)
        self._outlet = Outlet(self.words, marks=marks)
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
            if len(self.ahead) < _AHEAD_MAX:
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
        elif not self.lost and not len(self.ahead) <= self._intake.used <= _AHEAD_MAX:
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
        return self._intake.place()[: BUFFER_SIZE - _AHEAD_MAX]

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self.ahead += self._intake.came(nbytes)
        if len(self.ahead) >= _AHEAD_MAX:
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
