"""`Exchange`: a request and its response, as an ASGI application has them: scope, ``receive``, ``send``.

The head of a response waits for the first part of its body, for some milliseconds at most, and goes out with it in
one write: between two writes a worker could die, and a response would have begun.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Any

from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.slots import CONTINUE
from fdpass.serve.worker.cuts import log_cut
from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.http.files import FilePart, frame, open_file
from fdpass.serve.worker.http.response import (
    CHUNKED,
    CLOSE,
    LENGTH,
    NONE,
    SERVER_ERROR,
    SERVER_ERROR_HEADERS,
    early_hints,
    head_of,
    trailers,
    with_length,
)
from fdpass.serve.worker.http.wire import Connection

log = logging.getLogger("fdpass.serve")
_FAILED = about(Event.APPLICATION_FAILED)
_BODY_SENT = NONE + 1  # a framing: the body is sent, and trailers may follow
_FILE = NONE + 2  # a framing: a file is being sent as the body
_FILE_UNTIL_CLOSE = NONE + 3  # a framing: likewise, and only the end of the connection ends it
_FILE_PART = 1 << 20  # bytes that one sendfile(2) is asked for: the loop has other connections too


class Exchange:
    """One request and its response.

    Args:
        connection: The protocol of its connection.
        scope: As in ASGI.
        closes: The connection ends with the response.
        old: The client speaks HTTP/1.0, which has no chunks.
        expects: The client waits for ``100 Continue`` before it sends the body.

    Attributes:
        scope, closes: See above; the response's headers may ask for the end, too.
        body: What has come of the request's body, and was not received by the application yet.
        whole: The request has come to its end.
        started, complete: The application has begun a response; and has completed it.
        began: When the request's head had been parsed, on the monotonic clock.
        status: Of the response.
        gone: The client has ended its side: it sends nothing more, but may still read.
        lost, given_up: The connection is lost; the worker's time is over: see `give_up`.
        method, task: Of the request; and the task in which the application runs.
        head: Of the response, while it waits for the body.
    """

    __slots__ = (
        "_changed", "_connection", "_end_received", "_expects", "_framing", "_left", "_old", "_trailers",
        "_trailing", "began", "body", "closes", "complete", "given_up", "gone", "head", "lost", "method",
        "scope", "started", "status", "task", "whole",
    )  # fmt: skip

    def __init__(
        self, connection: Connection, scope: dict[str, Any], closes: bool, old: bool, expects: bool
    ) -> None:  # by position: Python puts keyword arguments of a class into a dict
        self.began = monotonic()
        self._connection = connection
        self._old = old
        self._expects = expects
        self.scope = scope
        self.method: str = scope["method"]
        self.closes = closes
        self.body = self.head = b""
        self.whole = self.started = self.complete = self.gone = self.lost = self.given_up = False
        self.task: asyncio.Task[None] | None = None
        self._changed: asyncio.Event | None = None  # set when `receive` has to look again
        self._end_received = False  # the application has received the end of the request's body
        self._framing = self._left = 0  # of the response; with Content-Length, how much of the body is to come
        self._trailers = False  # the application has promised trailers
        self._trailing: tuple[Any, ...] = ()

    @property
    def is_plain(self) -> bool:
        """The request is whole, and the client expects nothing before the response."""
        return self.whole and not self._expects

    async def run(self, app: Any) -> None:
        """Call the application. If it fails this is logged, and the client sees that its response is not whole."""
        try:
            result = await app(self.scope, self.receive, self.send)
        except BaseException as error:
            FORKS.end_child(error)
            if not (self.given_up and isinstance(error, asyncio.CancelledError)):
                log.exception("the application failed: %s", self._request, extra=_FAILED)
                self._fail()
        else:
            if result is not None:
                log.error("the application returned %r, not None: %s", result, self._request, extra=_FAILED)
                self._fail()
            elif self.gone and not (self.complete or self.lost):
                self.cut()  # it has stopped because the client ended its side
            elif not (self.complete or self.lost):
                rest = "completing its" if self.started else "starting a"
                # An event stream that learns of the worker's end (`Server.handle_exit`) returns in its middle.
                level = logging.DEBUG if self.started and self._connection.engine.finishing else logging.ERROR
                log.log(
                    level, "the application returned without %s response: %s", rest, self._request, extra=_FAILED
                )
                self._fail()
        finally:
            self._connection.over(self)

    @property
    def _request(self) -> str:
        """Method and path for the log, in which the path's line ends and control characters are escaped."""
        return f"{self.method} {ascii(self.scope['path'])[1:-1]}"

    def _fail(self) -> None:
        """Tell the client that there is no response, or no whole one."""
        if self.lost:
            return
        if self.complete:
            self._connection.failed(self)
        elif self.started:
            self.cut()
        else:
            self._start({"status": 500, "headers": SERVER_ERROR_HEADERS})
            self._send_body(SERVER_ERROR, False)

    def give_up(self, seconds: float) -> None:
        """The worker's time is over: cut the response, or answer 500; `receive` then returns ``http.disconnect``.

        What the application sends from now on goes nowhere. It may stop in the middle of its work for a client
        that has gone, and its result must not pass for a whole response.
        """
        log_cut(seconds, f"{'the work after ' if self.complete else ''}{self._request}", self.scope)
        self.given_up = True
        self._fail()
        self.lost = True
        self.wake()

    def cut(self) -> None:
        """End a response that has started, so that the client sees that it is not whole."""
        self.flush()
        self._connection.wire.cut(reset=self.lasts_until_close)

    @property
    def lasts_until_close(self) -> bool:
        """The response has started, and the client takes an ordinary end of the connection for its end."""
        return self._framing in {CLOSE, _FILE_UNTIL_CLOSE}

    # The request

    async def receive(self) -> dict[str, Any]:
        """See the ASGI specification: what comes next of the request's body, or that the client has gone."""
        if self._expects and not self.started:
            self._connection.wire.write(CONTINUE)
        self._expects = False
        while not (
            self.body or self.lost or self.complete or self.gone or (self.whole and not self._end_received)
        ):
            self._connection.resume_reading()
            changed = self._changed
            if changed is None:
                changed = self._changed = asyncio.Event()
            changed.clear()
            await changed.wait()
        if self.lost or self.complete or (self.gone and self._end_received):
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        self._end_received = self.whole
        return {"type": "http.request", "body": body, "more_body": not self.whole}

    def wake(self) -> None:
        """Let `receive` look again."""
        if self._changed is not None:
            self._changed.set()

    # The response

    async def send(self, message: Any) -> None:
        """See the ASGI specification. If the client is slow this waits; if it has gone, nothing happens.

        Raises:
            RuntimeError: The message is not the one that has to come next, or something in it cannot be sent.
        """
        if self._connection.full is not None:
            await self._connection.full.wait()
        if self.lost:
            await asyncio.sleep(0)  # an application that only sends would let nobody else run
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.started:
            self._start(message)
            self._connection.engine.flush_soon(self)
        elif kind == "http.response.body" and self.started and not self.complete:
            more = message.get("more_body", False)
            self._send_body(message.get("body", b""), more)
            if more and self._connection.wire.is_closing():
                await asyncio.sleep(0)  # else the connection would never be lost
        else:
            await self._send_other(kind, message)

    def _start(self, message: Any) -> None:
        engine = self._connection.engine
        self.status: int = message["status"]
        self.head, self._framing, self._left, self.closes = head_of(
            self.status,
            message.get("headers", ()),
            engine.date,
            self.method == "HEAD",  # by position, as below: keyword arguments cost more than some functions do
            self._old,
            self.closes,
            engine.dateless,
        )
        self._trailers = "trailers" in message and message["trailers"]
        self.started = True

    def flush(self) -> None:
        """Send the head, if it still waits for the body."""
        if self.head and not self.lost:
            head, self.head = self.head, b""
            self._connection.begin(self, head)

    def _send_body(self, body: Any, more: bool) -> None:
        if type(body) is not bytes:
            body = bytes(memoryview(body))
        framing = self._framing
        if framing == LENGTH:
            left = self._left - len(body)
            if left < 0:
                raise RuntimeError(f"the body of the response is longer than its Content-Length, by {-left} bytes")
            self._left = left
            if left and not more:
                self._connection.wire.write(self.head + body)
                self.head = b""
                raise RuntimeError(f"the body of the response is shorter than its Content-Length, by {left} bytes")
        elif framing == CHUNKED:
            if body:
                body = b"%x\r\n%b\r\n" % (len(body), body)
            if not (more or self._trailers):
                body += b"0\r\n\r\n"
        elif framing == CLOSE:
            if self.head and not more:
                self.head = with_length(self.head, len(body))
        elif framing == NONE:
            body = b""
        else:
            raise RuntimeError("a part of the response's body was sent behind its end")
        data = self.head + body if self.head else body
        self.head = b""
        if more and data is not body:
            self._connection.begin(self, data)
        elif more:
            self._connection.wire.write(data)
        elif self._trailers and framing == CHUNKED:
            self._framing = _BODY_SENT
            self._connection.wire.write(data)
        else:
            self._complete(data)

    def _complete(self, data: bytes) -> None:
        """Send the rest of the response."""
        self.complete = True
        if self._changed is not None:
            self._changed.set()
        closes = self.closes
        if closes and not self.whole:
            self._connection.wire.linger()
        self._connection.wire.respond(data, closes)
        self._connection.responded(self)

    async def _send_other(self, kind: str, message: Any) -> None:
        """Send what few responses have."""
        if kind == "http.response.early_hint" and not self.started:
            if self.scope["http_version"] != "1.0":  # RFC 9110, 15.2
                self._connection.wire.write(early_hints(message["links"]))
        elif kind == "http.response.pathsend" and self.started and self._framing <= NONE and not self.complete:
            await self._send_file(message["path"])
        elif (
            kind == "http.response.trailers" and self._trailers and (self.complete or self._framing == _BODY_SENT)
        ):
            if not self.complete:
                self._trailing += tuple(message.get("headers", ()))
                if not message.get("more_trailers", False):
                    self._complete(trailers(self._trailing))
        elif self.complete:
            raise RuntimeError(f"the application sent {kind!r} behind the end of its response")
        else:
            due = "http.response.body" if self.started else "http.response.start"
            raise RuntimeError(f"the application sent {kind!r} where {due!r} has to come")

    async def _send_file(self, path: str | FilePart) -> None:
        """Send a file as the rest of the body."""
        wire, framing = self._connection.wire, self._framing
        file, offset, end = open_file(path)
        with file:
            count = end - offset
            head, tail = frame(self.head, framing, self._left, count)
            self.head = b""
            if framing == NONE:
                count, end = 0, offset
            self._framing = _FILE if framing != CLOSE or head else _FILE_UNTIL_CLOSE
            wire.announce(len(head) + count + len(tail), last=self.closes)
            wire.write(head)
            while offset < end:
                offset += wire.send_file(file.fileno(), offset, min(end - offset, _FILE_PART))
                await asyncio.sleep(0)
                if self._connection.full is not None:
                    await self._connection.full.wait()
                if self.lost:
                    return
            self._complete(tail)
