"""`KnownHeaders`: reads requests like those that this worker has parsed before, without a parser. Pure.

A client sends the same headers again and again. If the parser has read the same headers before, byte for byte,
only the first line and the body are new: a regular expression reads an ordinary line, and Content-Length says how
long the body is. Everything else goes to the parser. `tests/property/test_serve_known_headers.py` compares both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.custody.request_end import RequestEnd

Headers = list[tuple[bytes, bytes]]

_USUAL_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!\"$-~]*) HTTP/1\.1(?=\r\n)").match
_LINE_MAX = 4096  # bytes of the first line
_FIELDS_MAX = 2048  # bytes of the headers
_BODY_MAX = 4096  # bytes; of longer ones, few have the same length
_KNOWN_MAX = 256


class KnownHeaders:
    """The headers of requests that the parser has taken, by their bytes: all between first line and body.

    Args:
        read: What headers say about the client, if the peer is trusted; the same for the same headers.
    """

    __slots__ = ("_known", "_read")

    def __init__(self, read: Callable[[Headers], Any] = lambda _: None) -> None:
        self._known: dict[bytes, tuple[Headers, bool, int, Any]] = {}
        self._read = read

    def find(self, data: bytes) -> tuple[str, bytes, Headers, bool, bytes, Any] | None:
        """A request, if ``data`` are exactly one, with headers that are known.

        Returns:
            The method, the target, the headers (a copy), whether the client ends the connection after it, the
            body, and what the headers say about the client.
        """
        line = _USUAL_LINE(data)
        if line is None:
            return None
        end = line.end()
        method, target = line.groups()
        if method == b"GET":  # if it has a body, its headers are not found: the parser reads it
            fields, body = data[end:], b""
        else:
            start = data.find(b"\r\n\r\n", end, end + _FIELDS_MAX) + 4
            fields, body = data[end:start], data[start:]  # no headers, if find() has not found their end
        known = self._known.get(fields)
        if known is None or len(body) != known[2] or end > _LINE_MAX:
            return None
        headers, closes, _, forwarded = known
        return method.decode(), target, headers.copy(), closes, body, forwarded

    def add(self, data: bytes, headers: Headers, body: bytes, *, closes: bool) -> None:
        """The parser has taken ``data`` for one request, which expects no ``100 Continue``.

        Args:
            data: The request.
            headers: What the parser made of it. Lent.
            body: Likewise.
            closes: The client ends the connection after it.
        """
        line = _USUAL_LINE(data)
        if line is None or len(body) > _BODY_MAX:
            return
        fields = data[line.end() : len(data) - len(body)]
        if len(fields) <= _FIELDS_MAX and _is_usual(fields, body):
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[fields] = headers.copy(), closes, len(body), self._read(headers)


def _is_usual(fields: bytes, body: bytes) -> bool:
    """Whether nothing but a Content-Length, if there is one, tells that this body follows these headers."""
    if fields.find(b"\r\n\r\n") != len(fields) - 4:
        return False
    found = fields.lower()
    if b"\ntransfer-encoding" in found or b"\nupgrade:" in found:
        return False
    request, end = b"GET / HTTP/1.1%b%b" % (fields, body), RequestEnd()
    return end.feed(request) == len(request) and end.complete and not end.opaque
