"""`Delivery`: what of a WebSocket's messages the application was given, is done with, and has sent.

The worker stores that in the slot: `slots` has the order of stores, and `recovery` their use.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    CALLED_BEFORE,
    FINAL_BASE,
    FLAGS,
    GIVEN,
    REDELIVER,
    SECOND,
    WRITTEN,
    Flag,
)
from fdpass.serve.worker.custody.reader import Reader
from fdpass.serve.worker.custody.state import store_state
from fdpass.serve.worker.live.frames import Frames
from fdpass.serve.worker.live.resume import Resume, check_state
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.transport.in_custody import InCustody

log = logging.getLogger("fdpass.serve")
Message = dict[str, Any]
_OVERFLOW = int(Flag.OVERFLOW)
NO_PAGE = pages.Page(0, 0, b"", b"")
_MOVED = {"type": "websocket.disconnect", "code": 1012, "reason": "it goes on in another worker"}


class Owner(Protocol):
    """What a WebSocket needs of those of its worker together: see `fdpass.serve.worker.live.websockets`.

    Attributes:
        poller: Watches the connections.
        pages: Of all connections.
        retiring: WebSockets are to go on in other workers.
        late: Those, too, whose applications have not asked for a message.
        finishing: The worker retires or stops.
    """

    poller: Poller
    pages: mmap.mmap
    retiring: bool
    late: bool
    finishing: bool

    def accepted(self, websocket: Any) -> None:
        """The application has answered the handshake, or the answer can be awaited no more."""

    def forget(self, websocket: Any) -> None:
        """The WebSocket has ended here."""


class Delivery(InCustody):
    """The part of `fdpass.serve.worker.live.websocket.LiveWebSocket` between uvicorn's class and the application.

    Args:
        websockets: See `Owner`.
        passed: The connection. Given.
        words: Its slot.
        reader: Reads it.
        wrote: How many bytes were written to it, ever.

    Attributes:
        words: See above; a slot of no connection once the WebSocket has ended here.
        attempt: 0; more if a worker has died with the handshake, or with a message, that now comes again.
        passed: See above.
    """

    __slots__ = (
        "_about", "_app", "_asked", "_base", "_drains", "_ends", "_frames", "_given", "_greets", "_holds",
        "_moved", "_next", "_page", "_receive_next", "_redeliver", "_refusal", "_refuses", "_resumable",
        "_second", "_undone", "_websockets",
    )  # fmt: skip

    _frames: Frames  # once it is open
    _ends: list[int]  # where messages end that the application was not given; of `Frames`

    def __init__(
        self, websockets: Owner, passed: PassedSocket, words: memoryview, reader: Reader, wrote: int
    ) -> None:
        InCustody.__init__(self, websockets.poller, passed, words, reader, wrote)
        self._websockets = websockets
        self._second = words[WRITTEN] & SECOND  # which state is in force
        self._base = self._given = reader.read  # the application is done with messages up to here; has been given
        self._undone = self._asked = False  # it is not done with one; it has asked for the next all the same
        self._greets = True  # it has asked for no message yet, and may be in the midst of what it sends at first
        self._holds = 0  # how often the application holds the WebSocket
        self._drains = self._moved = False  # sends that waited for the client go on now; another worker continues
        self._redeliver = 0  # REDELIVER, if the application has asked for it
        self._next: tuple[bytes | None] | None = None  # what is committed with the next message that is sent
        self._page = NO_PAGE  # until the WebSocket is open
        self._resumable = False
        self._refuses = False  # uvicorn's class has begun a response that is no 101
        self._refusal = b""  # what of it is held back
        self._app: Any = None
        self._about: dict[str, Any] = {}  # what the application is told, if it can go on in another worker

    # The application

    async def call(self, scope: Any, receive: Callable[[], Awaitable[Message]], send: Any) -> Any:
        """Call the application, in uvicorn's place."""
        about: dict[str, Any] = {"slot": self.passed.slot, "attempt": self.attempt}
        scope.setdefault("extensions", {})["fdpass"] = about
        if not self._resumable:
            return await self._app(scope, receive, send)
        about |= {"resumed": self._page.resumed, "age": self._page.age, "moved": False, "resume": Resume(self)}
        self._about = about
        self._receive_next = receive
        try:
            return await self._app(scope, self._receive, send)
        except Exception:
            if not self.passed.returned:
                raise
            # Many applications let the exception pass by which their framework tells them of a disconnect. At a
            # reload that would be a traceback for each WebSocket that goes on.
            log.debug("an application failed on a WebSocket that goes on in another worker", exc_info=True)
            return None

    @property
    def attempt(self) -> int:
        """See above."""
        return int(self.words[ATTEMPT] >= CALLED_BEFORE)

    async def _receive(self) -> Message:
        self._greets = False
        if self._undone:
            if self._holds:
                self._asked = True
            else:
                self._advance()
        if self._websockets.retiring:
            self.move_if_settled()
        message = await self._receive_next()
        if self._moved:
            return _MOVED.copy()
        if message["type"] == "websocket.receive":
            ends = self._ends
            if ends:  # else the connection is closing: uvicorn's class has refused a message
                self._given = given = ends.pop(0)
                self.words[GIVEN] = given | self._redeliver
                self._undone, self._asked = True, False
        return message

    def _advance(self) -> None:
        """The application is done with all messages that it was given."""
        self._undone = False
        words = self.words
        if not self._ends:
            self._given = self._frames.border  # control frames behind the last message are done with, too
        base = self._given
        if base != self._base:
            self._base = base
            if words[ATTEMPT]:
                words[ATTEMPT] = 0
            if self._backlog:  # with it, FINAL_END is set
                words[FINAL_BASE] = base
            words[BASE] = base
        if base == self._reader.read:
            self._reader.release()
            if words[FLAGS] & _OVERFLOW:
                words[FLAGS] &= ~_OVERFLOW

    def redeliver(self) -> None:
        """See `Resume.redeliver`."""
        self._redeliver = REDELIVER
        if self._undone:
            self.words[GIVEN] = self._given | REDELIVER

    def commit(self, state: bytes | None) -> None:
        """See `Resume.commit`."""
        if self._ending:
            from uvicorn.protocols.utils import ClientDisconnected  # noqa: PLC0415 - see `engines.uvicorn_websockets`

            raise ClientDisconnected
        words = self.words
        if state is not None:
            self._second = store_state(words, check_state(state))
        self._next = None
        self._announce(self._given, self._wrote)
        self._committed()

    def commit_with_next(self, state: bytes | None) -> None:
        """See `Resume.with_next`."""
        self._next = (None if state is None else check_state(state),)

    def _committed(self) -> None:
        words = self.words
        self._base = self._given
        words[ATTEMPT] = 0
        words[BASE] = self._given
        self._written()
        self._advance()
        if self._websockets.retiring:
            self._poller.loop.call_soon(self.move_if_settled)

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
                self.move_if_settled()

    def _read_nothing(self) -> None:
        """If the application is done with all that was read, no buffer is needed."""
        if self._base == self._reader.read:
            self._reader.release()
            if self.words[FLAGS] & _OVERFLOW:
                self.words[FLAGS] &= ~_OVERFLOW

    def _announce(self, base: int, position: int) -> None:
        """Up to this position will be written; then the application is done with messages up to ``base``."""
        raise NotImplementedError

    def _written(self) -> None:
        """What was announced is written, or is in the backlog."""
        raise NotImplementedError

    def move_if_settled(self) -> None:
        """Let another worker continue it, if the application is done with what it was given, and all is sent."""
        raise NotImplementedError
