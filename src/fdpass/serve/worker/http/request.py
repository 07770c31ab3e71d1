"""`KnownHeaders`: reads requests like those that this worker has parsed before, without a parser. Pure.

A client sends the same headers again and again. If a request has no body, and the parser has read the same headers
before, byte for byte, only its first line is new; a regular expression reads an ordinary one. Everything else goes
to the parser. `tests/property/test_serve_known_headers.py` compares both.
"""

from __future__ import annotations

import re

from fdpass.serve.worker.custody.request_end import is_special

Headers = list[tuple[bytes, bytes]]

_USUAL_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!\"$-~]*) HTTP/1\.1(?=\r\n)").match
_LINE_MAX = 4096  # bytes of the first line
_FIELDS_MAX = 2048  # bytes of the headers
_KNOWN_MAX = 256


class KnownHeaders:
    """The headers of requests that the parser has taken, by their bytes: everything behind the first line."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Headers, bool]] = {}

    def find(self, data: bytes) -> tuple[str, bytes, Headers, bool] | None:
        """A request, if ``data`` are one with headers that are known.

        Returns:
            The method, the target, the headers (a copy), and whether the client ends the connection after it.
        """
        line = _USUAL_LINE(data)
        if line is None or line.end() > _LINE_MAX:
            return None
        known = self._known.get(data[line.end() :])
        if known is None:
            return None
        method, target = line.groups()
        headers, closes = known
        return method.decode(), target, headers.copy(), closes

    def add(self, data: bytes, headers: Headers, *, closes: bool) -> None:
        """The parser has taken ``data`` for one request, which has no body, and expects no ``100 Continue``.

        Args:
            data: The request.
            headers: What the parser made of it. Lent.
            closes: The client ends the connection after it.
        """
        line = _USUAL_LINE(data)
        if line is None or len(data) - line.end() > _FIELDS_MAX:
            return
        fields = data[line.end() :]
        if fields.find(b"\r\n\r\n") == len(fields) - 4 and not is_special(b"get" + fields[:-2].lower()):
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[fields] = headers.copy(), closes
