r"""`AccessLog`: writes a line for each request.

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
from collections.abc import Callable, Mapping
from json import JSONEncoder
from typing import Any

from fdpass._fd import Fd

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
_COLORS = {1: "36", 2: "32", 3: "36", 4: "33", 5: "31"}  # cyan, green, cyan, yellow, red
_encode = JSONEncoder(separators=(",", ":")).encode


class AccessLog:
    """Writes lines about requests to a descriptor.

    In the Common Log Format, with the worker's process number at the end::

        192.0.2.1 - - [24/Nov/2026:06:00:00 +0000] "GET /path?x HTTP/1.1" 200 1234 pid=567

    As JSON, an object with time (UTC, milliseconds), pid, client, method, path, query, http (the version), status,
    bytes and ms (the duration). The time is that of the response's end. Or in another format, see
    `access_log_format`.

    When a line cannot be written, the logger ``fdpass.serve`` gets a warning with the reason; the next warning
    comes only after a line has been written.

    Args:
        fd: A file opened with O_APPEND, a pipe, a terminal. Given.
        json: Write JSON objects instead of the Common Log Format.
        pid: The process number that lines have; 0: that of this process.
        form: The format; empty: one of those above.

    Attributes:
        needs_response: The format has headers of the response.
    """

    def __init__(self, fd: Fd, *, json: bool, pid: int = 0, form: str = "") -> None:
        self._fd = fd
        self._format = self._as_json if json else self._as_common
        self.needs_response = False
        if form:
            self._format = self._by_format(form)
        self._painted = _colored if os.isatty(fd.fileno()) and _wants_colors() else str
        self._date = _json_date if json else _common_date
        self._pid = pid or os.getpid()
        self._second = (-1, "")  # the second of the last line, and its date as text
        self._failing = False  # the last line could not be written
        self._torn = False  # the disk took only a part of the last line

    def line(
        self, scope: Mapping[str, Any], status: int, size: int, seconds: float | None, headers: Any = ()
    ) -> None:
        """Write the line of a request that has just ended. Never raises.

        Args:
            scope: The request's ASGI scope: client, method (GET if missing, as for a WebSocket), path, raw_path,
                query_string and http_version are used.
            status: Of the response.
            size: Bytes of the response's body.
            seconds: Duration of the request; None if it is not known.
            headers: Of the response, pairs of bytes, if the format needs them.
        """
        limit = _LINE_MAX
        while len(text := self._format(scope, status, size, seconds, headers, limit)) > _LINE_MAX and limit:
            limit //= 2
        self._write(text[-_LINE_MAX:].encode("ascii", "backslashreplace"))

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

    def _by_format(self, form: str) -> Callable[..., str]:
        from fdpass.serve.shared import access_log_format  # noqa: PLC0415 - few servers need it

        write = access_log_format.compiled(form)
        self.needs_response = access_log_format.needs_response(form)

        def as_formatted(  # noqa: PLR0917 - as of the other formats
            scope: Mapping[str, Any], status: int, size: int, seconds: float | None, headers: Any, limit: int
        ) -> str:
            date, _ = self._now()
            return write(
                access_log_format.Facts(
                    scope, self._painted(status), size, seconds, headers, date, self._pid, limit
                )
            )

        return as_formatted

    def _as_common(
        self, scope: Mapping[str, Any], status: int, size: int, _: float | None, __: Any, limit: int
    ) -> str:
        date, _ = self._now()
        client, method, path, query, version = _printable_facts(scope, limit)
        target = f"{path}?{query}" if query else path
        request = f"{method} {target} HTTP/{version}"
        return f'{client or "-"} - - [{date}] "{request}" {self._painted(status)} {size} pid={self._pid}\n'

    def _as_json(
        self, scope: Mapping[str, Any], status: int, size: int, seconds: float | None, _: Any, limit: int
    ) -> str:
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
            "ms": None if seconds is None else round(seconds * 1000, 3),
        }
        return _encode(record) + "\n"


def _wants_colors() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"  # https://no-color.org


def _colored(status: int) -> str:
    """A status in the colour of its class: SGR of console_codes(4)."""
    return f"\x1b[{_COLORS.get(status // 100, '0')}m{status}\x1b[0m"


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
