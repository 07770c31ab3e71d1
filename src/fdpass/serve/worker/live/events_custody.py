"""`EventsCustody`: the transport of `HttpProtocol` where another worker can continue a connection's event streams.

`slots` has the order of stores, under "Open streams".
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

from fdpass.serve.shared import pages
from fdpass.serve.shared.pages import EVENTS, Page
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    OPEN,
    POSITION,
    SECOND,
    STATE_MAX,
    UNFINISHED,
    WRITTEN,
    Flag,
)
from fdpass.serve.worker.custody.reader import NOWHERE
from fdpass.serve.worker.custody.state import store_state
from fdpass.serve.worker.live.event_heads import agreed_by, behind_head, chunk_of
from fdpass.serve.worker.live.events import Events
from fdpass.serve.worker.live.paths import is_resumable, path_of
from fdpass.serve.worker.transport.base import NOW, Transport
from fdpass.serve.worker.transport.http_custody import HttpCustody

_OPAQUE, _OVERFLOW = int(Flag.OPAQUE), int(Flag.OVERFLOW)
_HIGH = pages.BACKLOG_SIZE // 2  # bytes that wait for a slow client, before the application has to: see `pages`
_Kind = TypeVar("_Kind", bound="EventsCustody")

INTERIM = b"HTTP/1.1 1"
"""The start of a response that is not the final one."""


class EventsCustody(HttpCustody):
    """A connection in custody whose event streams another worker can continue.

    Its class says what is in progress, so that other requests cost what they cost elsewhere. It is this one while
    there is no stream.
    """

    __slots__ = ()
    _about: dict[str, Any]  # what the application is told of the request, if it may be for a stream
    _live: Any

    def called(self, scope: dict[str, Any]) -> None:
        """See `Wire`."""
        HttpCustody.called(self, scope)
        if is_resumable(scope["path"], self._protocol.engine.resume):
            extensions = scope["extensions"]
            self._about = {**extensions["fdpass"], "resumed": 0, "age": 0.0, "moved": False}
            extensions["fdpass"] = self._about
            if scope["method"] == "GET" and scope["http_version"] == "1.1":
                self._become(_Candidate)

    def _go_on_with(self, events: Events) -> OpenEvents:
        """Send an event stream from now on."""
        self._live = events
        self.set_write_buffer_limits(_HIGH)
        return self._become(OpenEvents)

    def _become(self, kind: type[_Kind]) -> _Kind:
        self.__class__ = kind
        return self  # type: ignore[return-value]


class _Candidate(EventsCustody):
    """The next response may be an event stream."""

    __slots__ = ()

    def write(self, data: Any, flags: int = NOW) -> None:
        """See `asyncio.WriteTransport`."""
        if not (self._closing or self._answered or data[: len(INTERIM)] == INTERIM):
            if self._open(data):
                return
            self._become(EventsCustody)  # a later part has no head
        HttpCustody.write(self, data, flags)

    def respond(self, data: bytes, last: bool) -> None:
        """See `Wire`. The response is whole."""
        self._become(EventsCustody).respond(data, last=last)

    def _open(self, data: bytes) -> bool:
        """Open an event stream with the first part of a response; False if no other worker could continue it."""
        agreed, request = agreed_by(data), self._request()
        if not (agreed and request and is_resumable(path_of(request), self._protocol.engine.resume)):
            return False  # the last for a target in absolute form
        page = Page(EVENTS, 0, request, agreed, time.monotonic_ns())
        if not pages.store(self._protocol.engine.pages, self.passed.slot, page):
            return False
        stream = self._go_on_with(Events())
        stream._send_events(data, chunk_of(behind_head(data)))  # noqa: SLF001 - it is the same object
        return True

    def _request(self) -> bytes:
        """The head of the request, if it is in the buffer, and the client has sent nothing else; else b""."""
        end = self._request_end
        if self._held or end.opaque or not end.complete or self.words[FLAGS] & (_OPAQUE | _OVERFLOW):
            return b""
        request = self._reader.since(self.words[BASE]).lstrip(b"\r\n")
        return b"" if behind_head(request) else request

    def announce(self, count: int, *, last: bool) -> None:
        """See `Wire`. The response is a file: it has no events."""
        self._become(EventsCustody).announce(count, last=last)


class OpenEvents(EventsCustody):
    """An event stream is open, or will be when the kernel has its first whole part."""

    __slots__ = ()

    def write(self, data: Any, flags: int = NOW) -> None:
        """See `asyncio.WriteTransport`."""
        if self._answered or self._live is None:
            HttpCustody.write(self, data, flags)
        elif data and not self._closing:
            self._send_events(data, chunk_of(data))

    def _send_events(self, data: bytes, events: bytes) -> None:
        """Send a part of the response.

        Args:
            data: The part.
            events: What the stream has of it.
        """
        words, live = self.words, self._live
        before = live.last_id
        live.feed(events)
        if self._backlog:
            pages.drop_backlog(self._protocol.engine.pages, self.passed.slot)
        if live.is_resumable and len(live.last_id) <= STATE_MAX:
            is_stored = live.last_id == before and not words[FINAL_END] and words[WRITTEN] & OPEN
            second = words[WRITTEN] & SECOND if is_stored else store_state(words, live.last_id)
            words[FINAL_BASE] = self._fed
            words[FINAL_END] = self._wrote + len(data) | OPEN | second
        else:
            words[FINAL_END] = UNFINISHED | OPEN
        if self._marks:
            self._write_marked(data, NOW)
        else:
            Transport.write(self, data)
        if self._closing:
            return
        if not self._backlog:
            self._written()
        elif words[FINAL_END] & POSITION != UNFINISHED:
            start = self._wrote - len(self._backlog)
            pages.keep_backlog(self._protocol.engine.pages, self.passed.slot, start, self._backlog)

    def _written(self) -> None:
        """The kernel has all that was sent."""
        words = self.words
        end = words[FINAL_END]
        if end & POSITION == UNFINISHED:
            return
        is_opened = not words[WRITTEN] & OPEN
        if is_opened:
            words[FLAGS] = _OVERFLOW if self._held and not words[BUFFER] else 0
            words[ATTEMPT] = self._attempt = 0
            words[BASE] = self._fed
        elif self._attempt and (end ^ words[WRITTEN]) & SECOND:  # there is a new id: the stream makes progress
            words[ATTEMPT] = self._attempt = 0
        words[WRITTEN] = end
        words[FINAL_END] = 0
        if is_opened:
            self._release()

    def _has_lived(self) -> None:
        """The worker has not died of a stream that it continues."""
        self.words[ATTEMPT] = self._attempt = 0

    def _drained(self) -> None:
        HttpCustody._drained(self)  # noqa: SLF001 - of the base class
        if self.words[FINAL_END] & OPEN and not self._ending:
            self._written()
            pages.drop_backlog(self._protocol.engine.pages, self.passed.slot)

    def _read(self) -> None:
        HttpCustody._read(self)  # noqa: SLF001 - of the base class
        if self.words[WRITTEN] & OPEN:
            self._release()

    def _release(self) -> None:
        """Give the buffer back, if the client has sent nothing behind its request."""
        if not self._held:
            self._reader.release()
            self.words[FLAGS] &= ~_OVERFLOW

    def announce(self, count: int, *, last: bool) -> None:
        """See `Wire`. A file is the rest of the response."""
        self._live = None
        HttpCustody.announce(self, count, last=last)

    @property
    def is_resumable(self) -> bool:
        """See `Wire`."""
        return self._live is not None and not self._live.is_unnamed

    def move(self) -> bool:
        """See `Wire`."""
        words = self.words
        if (
            not words[WRITTEN] & OPEN
            or words[FINAL_END]
            or self._backlog or self._held or self._answered or self._ended or self._closing
        ):  # fmt: skip
            return False
        self._reader.release()
        self._about["moved"] = True
        self.words = NOWHERE  # the slot must not change any more
        self.passed.returned = True
        self.passed.read = b""
        self._end(None)
        return True

    def _commit(self) -> None:
        pages.forget(self._protocol.engine.pages, self.passed.slot)  # the kernel has the response's end
        self._become(EventsCustody)
        self.set_write_buffer_limits()
        HttpCustody._commit(self)  # noqa: SLF001 - of the base class
