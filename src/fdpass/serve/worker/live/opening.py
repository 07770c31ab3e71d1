"""WebSockets whose application has not accepted them yet, for the first time or again; and those in no custody."""

from __future__ import annotations

import asyncio
import re
import select
from typing import Any

from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    CALLED_BEFORE,
    CALLED_BY_METHOD,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    OPEN,
    Flag,
)
from fdpass.serve.worker.custody.reader import NOWHERE
from fdpass.serve.worker.live.delivery import NO_PAGE
from fdpass.serve.worker.live.frames import Frames
from fdpass.serve.worker.live.uvicorn_class import forget_context, give_handshake
from fdpass.serve.worker.live.websocket import LiveWebSocket
from fdpass.serve.worker.passed_socket import unread
from fdpass.serve.worker.transport.base import NOW, Transport

_GONE, _OUT = select.EPOLLRDHUP, select.EPOLLOUT
_CLOSING, _OPAQUE, _OVERFLOW = int(Flag.CLOSING), int(Flag.OPAQUE), int(Flag.OVERFLOW)
_AGREED = re.compile(rb"\r\n(sec-websocket-(?:protocol|extensions):[^\r\n]*)", re.IGNORECASE)
_REFUSAL_MAX = 64 * 1024  # bytes of a response to a handshake that are held back until it is whole
_WAITING = asyncio.Protocol()  # of those whose application was not called yet
_POLICY, _FAILED, _RESTART = 1008, 1011, 1012  # close codes: RFC 6455, 7.4.1; and the registry of IANA


class Opening(LiveWebSocket):
    """The handshake is not answered yet: for custody it is a request with a safe method.

    The answer is one write: the head of a 101, or all of a refusal. Until then nothing is read, but the end of the
    client is noticed.
    """

    __slots__ = ()

    @property
    def attempt(self) -> int:
        """See `LiveWebSocket`."""
        attempt: int = self.words[ATTEMPT]
        return attempt % CALLED_BEFORE

    def _first(self) -> None:
        self._wanted = _GONE
        self.words[FLAGS] |= CALLED_BY_METHOD["GET"]
        give_handshake(self._protocol, self._page.head)

    def prepare(self, protocol: Any, page: pages.Page, *, resumable: bool) -> None:
        """Before `start`: let the application of a protocol of uvicorn's be called through `call`.

        Args:
            protocol: See above.
            page: Has the handshake.
            resumable: Another worker may continue the WebSocket.
        """
        self._page, self._resumable = page, resumable
        self._app, protocol.app = protocol.app, self.call
        if resumable:
            forget_context(protocol)

    def _client_ended(self) -> None:
        if not (self.passed.read or unread(self._number)):  # else the application gets that first
            self._end(None)

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`: nothing is read yet."""

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`: nothing is read yet."""

    def write(self, data: Any, flags: int = NOW) -> None:
        """See `asyncio.WriteTransport`: an answer to the handshake, or a part of one."""
        if self._closing or not data:
            return
        if self._refuses or not data.startswith(b"HTTP/1.1 101"):
            self._refuses = True
            self._refusal += data
            if len(self._refusal) > _REFUSAL_MAX:
                data, self._refusal = self._refusal, b""
                self._write_marked(data, flags)
        elif self._resumable and pages.store(
            self._websockets.pages, self.passed.slot, self._page._replace(agreed=agreed(data))
        ):
            self._open(data)
        else:
            self._leave_custody(data)

    def move_if_settled(self) -> None:
        """See `LiveWebSocket`: the application has to accept it first."""

    def _open(self, answer: bytes) -> None:
        words = self.words
        end = self._wrote + len(answer) | OPEN
        words[FINAL_BASE] = self._base
        words[FINAL_END] = end
        self._write_marked(answer, NOW)
        words[FLAGS] &= int(Flag.WRITING)
        words[ATTEMPT] = 0
        words[BASE] = self._base
        self._written()
        self._reader.release()
        self._opened()

    def _opened(self) -> None:
        self._wanted &= ~_GONE  # the read that comes next will see the end, behind the client's messages
        self.__class__ = LiveWebSocket  # type: ignore[assignment]
        self._page = NO_PAGE
        self._greets = True
        self._frames = Frames(self._base)
        self._ends = self._frames.ends
        self._websockets.accepted(self)
        self._poller.loop.call_soon(self._go_on)

    def _leave_custody(self, answer: bytes) -> None:
        """No other worker can continue this WebSocket."""
        self.words[FLAGS] = _OPAQUE | _OVERFLOW
        self._reader.release()
        self._reader.forget()
        self.words = NOWHERE
        self._wanted &= ~_GONE  # see `_opened`
        self.__class__ = Opaque  # type: ignore[assignment]
        self._page = NO_PAGE
        Transport.write(self, answer)
        self._poller.loop.call_soon(self.resume_reading)

    def close(self) -> None:
        """See `asyncio.BaseTransport`: a refusal is whole now."""
        if self._refusal and not self._closing:
            data, self._refusal = self._refusal, b""
            self._write_last(data)
        super().close()

    def _write_last(self, data: bytes) -> None:
        """Send the last bytes of the connection."""
        words = self.words
        self._lingers = unread(self._number) > 0
        words[FLAGS] |= _CLOSING
        words[FINAL_BASE] = self._base
        words[FINAL_END] = self._wrote + len(data)
        self._write_marked(data, NOW)


class Resuming(Opening):
    """An open WebSocket of another worker, whose application is called anew.

    What uvicorn's class answers to the handshake is kept from the client, who got it long ago.
    """

    __slots__ = ()

    attempt = LiveWebSocket.attempt

    def wait(self, unsent: bytes) -> None:
        """Notice the client's end already now, although the application will be called later.

        Args:
            unsent: The backlog of the worker before, which is sent now.
        """
        self._protocol = _WAITING
        self._fresh = False
        self._backlog += unsent
        try:
            self._watch(_GONE | _OUT if unsent else _GONE)
        except OSError as error:  # ENOSPC, ENOMEM: see epoll_ctl(2)
            self._end(error)

    def _first(self) -> None:
        give_handshake(self._protocol, self._page.head)

    def move_if_settled(self) -> None:
        """Give it back, if the application was not called for it yet, and the backlog is sent."""
        if self._protocol is _WAITING and not (self._closing or self._backlog):
            self.passed.returned = self._moved = True  # with the bytes that came with it
            self.words = NOWHERE
            self._end(None)

    def write(self, data: Any, flags: int = NOW) -> None:  # noqa: ARG002 - nothing of it is sent
        """See `asyncio.WriteTransport`: what would be the answer to the handshake."""
        if self._closing or not data:
            return
        if not data.startswith(b"HTTP/1.1 101"):
            failed = data[9:12] == b"500"
            self.refuse(_RESTART if self._websockets.finishing else _FAILED if failed else _POLICY)
        elif agreed(data) != self._page.agreed:
            self.refuse(_RESTART)
        else:
            self._opened()

    def refuse(self, code: int = _RESTART) -> None:
        """End the WebSocket with this code."""
        self._write_last(b"\x88\x02%b" % code.to_bytes(2, "big"))
        self._lingers = True  # until the client has answered
        super().close()

    def close(self) -> None:
        """See `asyncio.BaseTransport`: one of uvicorn's classes does not wait for the application for ever."""
        if self._closing:
            return
        self.refuse()


class Opaque(LiveWebSocket):
    """A WebSocket that ends with its worker: none of it is in custody any more."""

    __slots__ = ()
    is_resumable = False
    _read, write, _drained = Transport._read, Transport.write, Transport._drained  # noqa: SLF001 - of a base class

    def move_if_settled(self) -> None:
        """See `LiveWebSocket`: it stays."""


def agreed(answer: bytes) -> bytes:
    """The lines of a 101 by which client and server understand each other: subprotocol and extensions."""
    return b"\n".join(sorted(line.lower() for line in _AGREED.findall(answer)))
