"""`LiveWebSocket`: the transport of an open WebSocket that another worker can continue.

It knows where the client's messages end, and which of them the application has been given and is done with, and
stores that in the slot: `slots` has the order of stores, and `recovery` their use. uvicorn's class speaks the
protocol. It gives each frame to `write` whole, sometimes several at once.
"""

from __future__ import annotations

import mmap
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from uvicorn.protocols.utils import ClientDisconnected

from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER_SIZE,
    CALLED_BEFORE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    GIVEN,
    OPEN,
    REDELIVER,
    SECOND,
    WRITTEN,
    WROTE,
    Flag,
)
from fdpass.serve.worker.custody.reader import NOWHERE, Reader
from fdpass.serve.worker.live.frames import Frames, ends_with_close
from fdpass.serve.worker.live.resume import Resume
from fdpass.serve.worker.live.states import check_state, write_state
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.transport.base import NOW, Transport
from fdpass.serve.worker.transport.http import HttpTransport

Message = dict[str, Any]
_CLOSING, _OVERFLOW, _WRITING = int(Flag.CLOSING), int(Flag.OVERFLOW), int(Flag.WRITING)
_CONTROL = 8  # bit of a frame's first byte: a control frame
_AHEAD_MAX = BUFFER_SIZE // 2  # bytes of a buffer, behind which what is still needed moves into another one
NO_PAGE = pages.Page(0, 0, b"", b"")
_MOVED = {"type": "websocket.disconnect", "code": 1012, "reason": "it goes on in another worker"}


class Owner(Protocol):
    """What a WebSocket needs of those of its worker together: see `fdpass.serve.worker.live.websockets`.

    Attributes:
        poller: Watches the connections.
        pages: Of all connections.
        retiring: WebSockets are to go on in other workers.
        finishing: The worker retires or stops.
    """

    poller: Poller
    pages: mmap.mmap
    retiring: bool
    finishing: bool

    def accepted(self, websocket: Any) -> None:
        """The application has answered the handshake, or the answer can be awaited no more."""

    def forget(self, websocket: Any) -> None:
        """The WebSocket has ended here."""


class LiveWebSocket(HttpTransport):
    """The transport of uvicorn's class, once the WebSocket is open. Before that it is a class of `opening`.

    Args:
        websockets: See `Owner`.
        passed: The connection. Given.
        words: Its slot.
        reader: Reads it.
        wrote: How many bytes were written to it, ever.

    Attributes:
        words: See above; a slot of no connection once the WebSocket has ended here.
        attempt: How many workers have died with it since it made progress last.
        passed: See above.
    """

    __slots__ = (
        "_app", "_asked", "_base", "_frames", "_given", "_holds", "_marks", "_next", "_page", "_reader",
        "_receive_next", "_redeliver", "_refusal", "_resumable", "_second", "_send_next", "_sending", "_undone",
        "_websockets", "words",
    )  # fmt: skip

    def __init__(
        self, websockets: Owner, passed: PassedSocket, words: memoryview, reader: Reader, wrote: int
    ) -> None:
        HttpTransport.__init__(self, websockets.poller, passed)
        self.words = words
        self._websockets = websockets
        self._reader = reader
        self._marks = passed.is_unix
        self._wrote = wrote
        self._second = words[WRITTEN] & SECOND  # which state is in force
        self._base = self._given = reader.read  # the application is done with messages up to here; has been given
        self._frames = Frames(self._base)
        self._undone = self._asked = False  # it is not done with one; it has asked for the next all the same
        self._holds = self._sending = 0  # how often the application holds the WebSocket; how many sends it awaits
        self._redeliver = 0  # REDELIVER, if the application has asked for it
        self._next: tuple[bytes | None] | None = None  # what is committed with the next message that is sent
        self._page = NO_PAGE  # until the WebSocket is open
        self._resumable = False
        self._refusal = b""  # what uvicorn's class has written of a response that is no 101
        self._app: Any = None

    # The application

    async def call(self, scope: Any, receive: Callable[[], Awaitable[Message]], send: Any) -> Any:
        """Call the application, in uvicorn's place."""
        about = {"slot": self.passed.slot, "attempt": self.attempt}
        scope.setdefault("extensions", {})["fdpass"] = about
        if not self._resumable:
            return await self._app(scope, receive, send)
        about |= {"resumed": self._page.resumed, "resume": Resume(self)}
        self._receive_next, self._send_next = receive, send
        return await self._app(scope, self._receive, self._send)

    @property
    def attempt(self) -> int:
        """See above."""
        attempt: int = self.words[ATTEMPT]
        return attempt % CALLED_BEFORE

    async def _receive(self) -> Message:
        if self._undone:
            if self._holds:
                self._asked = True
            else:
                self._advance()
        if self._websockets.retiring:
            self.leave()
        message = await self._receive_next()
        if self.passed.returned:
            return _MOVED.copy()
        if message["type"] == "websocket.receive" and self._frames.ends:
            self._given = self._frames.ends.popleft()
            self.words[GIVEN] = self._given | self._redeliver
            self._undone, self._asked = True, False
        return message

    async def _send(self, message: Message) -> None:
        if self.passed.returned:
            raise ClientDisconnected
        self._sending += 1
        try:
            await self._send_next(message)
        finally:
            self._sending -= 1
        if self._websockets.retiring:
            self.leave()

    def _advance(self) -> None:
        """The application is done with all messages that it was given."""
        self._undone = False
        words, frames = self.words, self._frames
        base = self._given if frames.ends else frames.border
        if base != self._base:
            self._base = base
            if words[ATTEMPT]:
                words[ATTEMPT] = 0
            words[BASE] = base
        if base == self._reader.read:
            self._read_nothing()

    def redeliver(self) -> None:
        """See `Resume.redeliver`."""
        self._redeliver = REDELIVER
        if self._undone:
            self.words[GIVEN] = self._given | REDELIVER

    def commit(self, state: bytes | None) -> None:
        """See `Resume.commit`."""
        if self._ending:
            raise ClientDisconnected
        words = self.words
        if state is not None:
            self._second = write_state(words, check_state(state))
        self._next = None
        words[FINAL_BASE] = self._given
        words[FINAL_END] = self._wrote | OPEN | self._second
        self._committed(self._wrote | OPEN | self._second)

    def commit_with_next(self, state: bytes | None) -> None:
        """See `Resume.with_next`."""
        self._next = (None if state is None else check_state(state),)

    def _committed(self, end: int) -> None:
        words = self.words
        self._base = self._given
        words[ATTEMPT] = 0
        words[BASE] = self._given
        words[WRITTEN] = end
        if not words[FLAGS] & _CLOSING:
            words[FINAL_END] = 0
        self._advance()
        if self._websockets.retiring:
            self._poller.loop.call_soon(self.leave)

    def hold(self) -> None:
        """See `Resume.hold`."""
        self._holds += 1

    def release(self) -> None:
        """See `Resume.release`."""
        if not self._holds:
            raise RuntimeError("release() without a hold() before it")
        self._holds -= 1
        if not self._holds and not self._ending:
            if self._asked:
                self._advance()
            if self._websockets.retiring:
                self.leave()

    # What comes

    def _read(self) -> None:
        reader = self._reader
        if reader.read != self._base:
            self._make_room()
        try:
            data = reader.receive(self.passed)
        except OSError as error:
            self._read_nothing()
            if not isinstance(error, BlockingIOError):
                self._end(error)
            return
        if data:
            self._take(data)
        else:
            self._read_nothing()
            self._eof()

    def _take(self, data: bytes) -> None:
        frames = self._frames
        frames.feed(data, self._reader.read)
        self._protocol.data_received(data)
        if not (frames.ends or self._undone):
            # Control frames alone, or part of a message; later, for one of uvicorn's classes answers in a task.
            self._poller.loop.call_soon(self._pass_border)

    def _go_on(self) -> None:
        """The WebSocket is open: read, first what another worker had read."""
        if self._ending:
            return
        Transport.resume_reading(self)
        data, self.passed.read = self.passed.read, b""
        if data:
            self._reader.begin(data)
            self._reader.read += len(data)
            self._take(data)
        if self._websockets.retiring:
            self.leave()

    def outlived(self) -> None:
        """It is open for half a second: if it is idle, its next death counts as the first."""
        if self._base == self._reader.read:
            self.words[ATTEMPT] = 0

    def _pass_border(self) -> None:
        if not (self._frames.ends or self._undone or self._ending):
            self._advance()

    def _read_nothing(self) -> None:
        """If the application is done with all that was read, no buffer is needed."""
        if self._base == self._reader.read:
            self._reader.release()
            if self.words[FLAGS] & _OVERFLOW:
                self.words[FLAGS] &= ~_OVERFLOW

    def _make_room(self) -> None:
        """Before a buffer is full, move what is still needed to the start of another one."""
        reader, needed = self._reader, self._reader.read - self._base
        if needed <= _AHEAD_MAX < reader.used and not self.words[FLAGS] & _OVERFLOW:
            reader.exchange(reader.since(self._base))

    # What goes

    def write(self, data: Any, flags: int = NOW) -> None:
        """See `asyncio.WriteTransport`: one whole frame, or several."""
        if self._closing or not data:
            return
        words, base, is_commit = self.words, self._base, False
        if data[0] & _CONTROL:
            if ends_with_close(data):
                words[FLAGS] |= _CLOSING
        elif self._next is not None:
            (state,), self._next = self._next, None
            base, is_commit = self._given, True
            if state is not None:
                self._second = write_state(words, state)
        end = self._wrote + len(data) | OPEN | self._second
        words[FINAL_BASE] = base
        words[FINAL_END] = end
        self._write_marked(data, flags)
        if is_commit:
            self._committed(end)
            return
        # Even if the kernel has not all of it: then a death is a reset, for the application has sent it.
        words[WRITTEN] = end
        if not words[FLAGS] & _CLOSING:
            words[FINAL_END] = 0

    def _write_marked(self, data: Any, flags: int) -> None:
        if not self._marks:
            Transport.write(self, data, flags)
            return
        self.words[FLAGS] |= _WRITING
        Transport.write(self, data, flags)
        if not self._backlog:
            self._mark()

    def _mark(self) -> None:
        """Store that the kernel has all bytes that were written to a Unix socket."""
        self.words[WROTE] = self._wrote
        self.words[FLAGS] &= ~_WRITING

    def _drained(self) -> None:
        super()._drained()
        if self._marks:
            self._mark()
        if self._websockets.retiring:
            self._poller.loop.call_soon(self.leave)

    # Its end here

    def leave(self) -> None:
        """Let another worker continue it, if the application is done with what it was given, and all is sent."""
        words, reader = self.words, self._reader
        if (
            self._undone or self._sending or self._holds or self._closing or self._backlog
            or self._next is not None or self.passed.read or words[FLAGS] & (_CLOSING | _OVERFLOW)
            or not reader.has(self._base)
        ):  # fmt: skip
            return
        self.passed.returned = True
        self.passed.read = reader.since(self._base)
        self.passed.on_returned = reader.forget  # until the dispatcher is told, the buffer has what was read
        self.words = NOWHERE
        self._end(None)

    def _over(self, error: Exception | None) -> None:
        if not self.passed.returned:
            if not self._lingers:
                self.passed.shut_down()
            if self.words[WRITTEN] & OPEN:
                pages.forget(self._websockets.pages, self.passed.slot)
            self.words[FLAGS] |= _OVERFLOW  # what was read is no request that another worker could answer
            self._reader.release()  # the slot must not name a buffer that another connection gets
            self._reader.forget()
        self.words = NOWHERE
        self._websockets.forget(self)
        HttpTransport._over(self, error)  # noqa: SLF001 - of the base class
