r"""`AccessLog` writes a line for each request; `wrap` makes an ASGI application whose requests are logged.

A line is one write(2) of at most 4096 bytes; parts that are too long are cut. So the lines of several workers
never mix, neither in a file opened with O_APPEND nor in a pipe (PIPE_BUF in pipe(7)). A log that cannot be written
hinders no request: its lines are dropped. Only a pipe in blocking mode whose reader stops reading blocks the
worker, as it blocks any program that writes to it.

Text from the client is printed as ASCII; each other byte, the space, the quote and the backslash as ``\xHH``. So
no request can forge the line of another.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from json import JSONEncoder
from typing import Any

from fdpass._fd import Fd

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_LOG = logging.getLogger("fdpass.serve")
_LINE_MAX = 4096  # PIPE_BUF
_UNSAFE = re.compile(rb"[^!#-\[\]-~]")
_MONTHS = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)  # whatever the locale
_encode = JSONEncoder(separators=(",", ":")).encode
_FINAL_MESSAGES = {  # of a response, unless more_body is set
    "http.response.body",
    "http.response.zerocopysend",
    "http.response.pathsend",
    "websocket.close",
    "websocket.http.response.body",
}


class AccessLog:
    """Writes lines about requests to a descriptor.

    In the Common Log Format, with the worker's process number at the end::

        192.0.2.1 - - [24/Nov/2026:06:00:00 +0000] "GET /path?x HTTP/1.1" 200 1234 pid=567

    As JSON, an object with time (UTC, milliseconds), pid, client, method, path, query, http (the version), status,
    bytes and ms (the duration). The time is that of the response's end.

    When a line cannot be written, the logger ``fdpass.serve`` gets a warning with the reason; the next warning
    comes only after a line has been written.

    Args:
        fd: A file opened with O_APPEND, a pipe, a terminal. Given.
        json: Write JSON objects instead of the Common Log Format.
    """

    def __init__(self, fd: Fd, *, json: bool) -> None:
        self._fd = fd
        self._format = self._as_json if json else self._as_common
        self._date = _json_date if json else _common_date
        self._pid = os.getpid()
        self._second = (-1, "")  # the second of the last line, and its date as text
        self._failing = False  # the last line could not be written
        self._torn = False  # the disk took only a part of the last line

    def line(self, scope: Mapping[str, Any], status: int, size: int, seconds: float) -> None:
        """Write the line of a request that has just ended. Never raises.

        Args:
            scope: The request's ASGI scope: client, method (GET if missing, as for a WebSocket), path, raw_path,
                query_string and http_version are used.
            status: Of the response.
            size: Bytes of the response's body.
            seconds: Duration of the request.
        """
        limit = _LINE_MAX
        while len(text := self._format(scope, status, size, seconds, limit)) > _LINE_MAX:
            limit //= 2
        self._write(text.encode("ascii"))

    def _write(self, line: bytes) -> None:
        data = b"\n" + line if self._torn else line  # a torn line must not spoil this one
        try:
            count = os.write(self._fd.fileno(), data)
        except OSError as error:
            self._warn(error)
            return
        self._torn = count < len(data)
        if self._torn:
            self._warn("no room for a whole line")
        else:
            self._failing = False

    def reopen(self, fd: Fd) -> None:
        """Go on in another file after a rotation, and close the present one. ``fd`` is given."""
        with fd:
            # dup2 keeps the number: a thread that is about to write never finds it closed, or another file's.
            os.dup2(fd.fileno(), self._fd.fileno(), inheritable=False)
        self._torn = False

    def _warn(self, reason: object) -> None:
        if not self._failing:
            _LOG.warning("access log: lines are dropped from now on: %s", reason)
        self._failing = True

    def _now(self) -> tuple[str, int]:
        """The date as text, which is made once a second, and the milliseconds."""
        second, nanoseconds = divmod(time.time_ns(), 10**9)
        if second != self._second[0]:
            self._second = (second, self._date(second))
        return self._second[1], nanoseconds // 10**6

    def _as_common(self, scope: Mapping[str, Any], status: int, size: int, seconds: float, limit: int) -> str:  # noqa: ARG002 - this format has no duration
        date, _ = self._now()
        client, method, path, query, version = _printable_facts(scope, limit)
        target = f"{path}?{query}" if query else path
        request = f"{method} {target} HTTP/{version}"
        return f'{client or "-"} - - [{date}] "{request}" {status} {size} pid={self._pid}\n'

    def _as_json(self, scope: Mapping[str, Any], status: int, size: int, seconds: float, limit: int) -> str:
        date, ms = self._now()
        client, method, path, query, version = _printable_facts(scope, limit)
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
    utc = time.gmtime(second)
    return time.strftime(f"%d/{_MONTHS[utc.tm_mon - 1]}/%Y:%H:%M:%S +0000", utc)


def _json_date(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _printable_facts(scope: Mapping[str, Any], limit: int) -> tuple[str, str, str, str, str]:
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


def _hex(match: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % match[0][0]


def wrap(app: App, log: AccessLog) -> App:
    """Make an ASGI application that does what ``app`` does, and logs each request and each WebSocket.

    A request is logged when ``app`` has sent the last part of the response, or else when ``app`` ends. The status
    is that of the response; if no response began it is 500, as the server then answers. The size is that of the
    body as ``app`` sent it (the server leaves it out for HEAD), without files that ``app`` names by a path. A
    WebSocket is logged when ``app`` closes it or ends: with 101 if ``app`` accepted it, 403 if not, or the status
    of the response that ``app`` sent instead. Other scopes pass untouched.

    Args:
        app: The application.
        log: Gets the lines.
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
    """One request; watches the messages of its response."""

    __slots__ = ("_log", "_logged", "_scope", "_send", "_size", "_start", "_status")

    def __init__(self, scope: MutableMapping[str, Any], send: Send, log: AccessLog) -> None:
        self._scope, self._send, self._log = scope, send, log
        self._status = self._size = 0
        self._logged = False
        self._start = time.perf_counter()

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            self._status = message["status"]
        elif kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.close" and not self._status:
            self._status = 403  # with which the server then answers the handshake
        await self._send(message)
        if kind in {"http.response.body", "websocket.http.response.body"}:
            self._size += len(message.get("body", b""))
        elif kind == "http.response.pathsend":
            self._size += message.get("count", 0)  # a WSGI application's file
        if kind in _FINAL_MESSAGES and not message.get("more_body", False):
            self.end()

    def end(self) -> None:
        if not self._logged:
            self._logged = True
            seconds = time.perf_counter() - self._start
            self._log.line(self._scope, self._status or 500, self._size, seconds)
