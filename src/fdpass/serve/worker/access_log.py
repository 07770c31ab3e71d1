r"""`AccessLog`: a worker's line for each request, and `wrap`, which writes them around an ASGI application.

A line is one write(2) of at most 4096 bytes: what is too long in it is cut. So the lines of several workers never
mix, neither in a file opened with O_APPEND nor in a pipe (PIPE_BUF in pipe(7)). A log that cannot be written
hinders no request: its lines are dropped and counted. Only a pipe in blocking mode whose reader stops holds the
worker up, as it does any program that writes to it.

What the client sent is printed as ASCII; each other byte, the space, the quote and the backslash as ``\xHH``. So
no request can make a line that is not its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from json import JSONEncoder
from typing import Any

from fdpass._fd import Fd
from fdpass.errors import Closed

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_LOG = logging.getLogger("fdpass.serve")
_LINE_MAX = 4096  # PIPE_BUF
_UNSAFE = re.compile(rb"[^!#-\[\]-~]")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in no locale
_encode = JSONEncoder(separators=(",", ":")).encode
_LAST = {
    "http.response.body",
    "http.response.zerocopysend",
    "http.response.pathsend",
    "websocket.close",
    "websocket.http.response.body",
}


class AccessLog:
    """Lines about requests, written to a descriptor.

    In the Common Log Format, with the worker's process number at the end::

        192.0.2.1 - - [24/Nov/2026:06:00:00 +0000] "GET /path?x HTTP/1.1" 200 1234 pid=567

    As JSON, an object with time (UTC, milliseconds), pid, client, method, path, query, http (the version), status,
    bytes and ms (how long it took). The time is that of the response's end.

    Args:
        fd: Where to: a file opened with O_APPEND, a pipe, a terminal. It is this object's from now on.
        json: Write JSON objects instead of the Common Log Format.

    Attributes:
        dropped: How many lines could not be written. The first one since the last success is told to the logger
            ``fdpass.serve`` with the reason.
    """

    def __init__(self, fd: Fd, *, json: bool) -> None:
        self.dropped = 0
        self._fd = fd
        self._format = self._as_json if json else self._as_common
        self._date = _json_date if json else _common_date
        self._pid = os.getpid()
        self._now = (-1, "")
        self._failing = self._torn = False

    def line(self, scope: Mapping[str, Any], status: int, size: int, seconds: float) -> None:
        """Write the line of a request that has just ended. Never raises.

        Args:
            scope: Of the request, as in ASGI: of it count client, method, path, raw_path, query_string and
                http_version. Of a WebSocket, the method is GET.
            status: Of the response.
            size: Bytes of the response's body.
            seconds: How long it took.
        """
        limit = _LINE_MAX
        while len(text := self._format(scope, status, size, seconds, limit)) > _LINE_MAX:
            limit //= 2
        self.write(text.encode("ascii"))

    def write(self, line: bytes) -> None:
        """Write a line, its newline included. Never raises."""
        try:
            # What there is of a line that the disk had no room for stays a line of its own.
            whole = b"\n" + line if self._torn else line
            count = os.write(self._fd.fileno(), whole)
        except (OSError, Closed) as error:
            self._drop(error)
            return
        self._torn = count < len(whole)
        if self._torn:
            self._drop("no room for the whole of it")
        else:
            self._failing = False

    def reopen(self, fd: Fd) -> None:
        """Go on in another file, and close the present one: after a rotation. ``fd`` is this object's, or closed.

        Raises:
            Closed: This log, or ``fd``, was closed before.
        """
        with fd:
            # dup2 and no exchange: a thread that is about to write never finds the number closed, or another's.
            os.dup2(fd.fileno(), self._fd.fileno(), inheritable=False)
        self._torn = False

    def close(self) -> None:
        """Close the descriptor; from then on lines are dropped. Twice does nothing."""
        with contextlib.suppress(OSError):  # a network's file system reports lost writes here
            self._fd.close()

    def _drop(self, reason: object) -> None:
        self.dropped += 1
        if not self._failing:
            _LOG.warning("access log: lines are dropped from now on: %s", reason)
        self._failing = True

    def _clock(self) -> tuple[str, int]:
        second, rest = divmod(time.time_ns(), 10**9)
        if second != self._now[0]:
            self._now = (second, self._date(second))
        return self._now[1], rest // 10**6

    def _as_common(self, scope: Mapping[str, Any], status: int, size: int, seconds: float, limit: int) -> str:  # noqa: ARG002 - this format has no place for it
        date, _ = self._clock()
        client, method, path, query, version = _facts(scope, limit)
        target = f"{path}?{query}" if query else path
        request = f"{method} {target} HTTP/{version}"
        return f'{client or "-"} - - [{date}] "{request}" {status} {size} pid={self._pid}\n'

    def _as_json(self, scope: Mapping[str, Any], status: int, size: int, seconds: float, limit: int) -> str:
        date, ms = self._clock()
        client, method, path, query, version = _facts(scope, limit)
        record = {
            "time": f"{date}.{ms:03}Z",
            "pid": self._pid,
            "client": client or None,
            "method": method,
            "path": path,
            "query": query,
            "http": version,
            "status": status,
            "bytes": size,
            "ms": round(seconds * 1000, 3),
        }
        return _encode(record) + "\n"


def _common_date(second: int) -> str:
    at = time.gmtime(second)
    return time.strftime(f"%d/{_MONTHS[at.tm_mon - 1]}/%Y:%H:%M:%S +0000", at)


def _json_date(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _facts(scope: Mapping[str, Any], limit: int) -> tuple[str, str, str, str, str]:
    client = scope.get("client")
    return (
        _printable(client[0] if client else "", limit),
        _printable(scope.get("method", "GET"), limit),
        _printable(scope.get("raw_path") or scope["path"], limit),
        _printable(scope.get("query_string", b""), limit),
        _printable(scope.get("http_version", "1.1"), limit),
    )


def _printable(value: str | bytes, limit: int) -> str:
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return _UNSAFE.sub(_hex, raw[:limit]).decode("ascii")


def _hex(found: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % found[0][0]


def wrap(app: App, log: AccessLog) -> App:
    """An ASGI application that does what ``app`` does, and writes a line for each request and each WebSocket.

    A request's line comes when the last part of its response has been sent, or else when ``app`` ends: with the
    status that it began with, or 500, as the server then answers, if it did not begin. The bytes are those of the
    body as ``app`` gave it (to HEAD the server sends none of it), without what the server itself reads from a
    file. A WebSocket's line comes when ``app`` closes it or ends: 101 if it was accepted, 403 if not, or the
    status of the application's own answer. Other scopes pass untouched.

    Args:
        app: The application.
        log: Where to; it stays yours to close.
    """

    async def logged(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return await app(scope, receive, send)
        exchange = _Exchange(scope, send, log)
        try:
            return await app(scope, receive, exchange.send)
        finally:
            exchange.end()

    return logged


class _Exchange:
    """What is learnt about one request from the messages of its response."""

    __slots__ = ("_ended", "_log", "_scope", "_send", "_size", "_start", "_status")

    def __init__(self, scope: MutableMapping[str, Any], send: Send, log: AccessLog) -> None:
        self._scope, self._send, self._log = scope, send, log
        self._status = self._size = 0
        self._ended = False
        self._start = time.perf_counter()

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            self._status = message["status"]
        elif kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.close" and not self._status:
            self._status = 403  # what the server then answers to the handshake
        await self._send(message)
        if kind in {"http.response.body", "websocket.http.response.body"}:
            self._size += len(message.get("body", b""))
        if kind in _LAST and not message.get("more_body", False):
            self.end()

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            seconds = time.perf_counter() - self._start
            self._log.line(self._scope, self._status or 500, self._size, seconds)
