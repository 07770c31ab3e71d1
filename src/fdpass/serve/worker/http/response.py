"""The bytes of a response around its body: status line, headers, and what tells where the body ends. Pure.

Headers of the application are checked here: none can smuggle in a line, and a client can tell a cut response from
a whole one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

LENGTH, CHUNKED, CLOSE, NONE = range(4)
"""The framings: how a client learns where the body of a response ends.

Content-Length says it; an empty chunk does; the end of the connection does; or there is no body (the response to
HEAD, or one with the status 204 or 304).
"""

SERVER_ERROR = b"Internal Server Error"
"""The body of the response where an application has failed before its own."""

SERVER_ERROR_HEADERS = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(SERVER_ERROR)),
    (b"connection", b"close"),
)
"""The headers of that response."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch  # a token: RFC 9110, 5.6.2
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search  # RFC 9110, 5.5
_LENGTH = re.compile(rb"content-length:")
_ENCODING = re.compile(rb"transfer-encoding:")

# What a header means for the framing and the end of the response; a number from 0 is a Content-Length.
_NOTHING, _CHUNKS, _CLOSES, _DATE = range(-1, -5, -1)

_DIGITS_MAX = 18  # of a Content-Length: more than 10**18 bytes are no file
_KNOWN_MAX = 1024
_KNOWN_VALUE_MAX = 128  # bytes
_known: dict[Any, tuple[bytes, int]] = {}  # by name and value, as applications send the same ones again and again

_HeadKey = tuple[Any, ...]  # what a head is made of, but for the date: status, to_head, old, closes, *headers
# The first line; whether the headers have a date; all other lines; and the last three results of `head_of`.
_Head = tuple[bytes, bool, bytes, int, int, bool]
_HEADS_MAX = 256
_HEAD_MAX = 1024  # bytes
_heads: dict[_HeadKey, _Head] = {}


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}
"""The first line of a final response, by status."""


def head_of(  # noqa: PLR0917 - by position: keyword arguments cost more than some functions do
    status: Any,
    headers: Iterable[Any],
    date: bytes,
    to_head: bool,
    old: bool,
    closes: bool,
    dateless: bytes = b"",
) -> tuple[bytes, int, int, bool]:
    """The head of a response.

    Args:
        status: From 200 to 599.
        headers: Pairs of bytes.
        date: The server's own headers as they are sent: those of ``--header``, and Date.
        to_head: The request's method is HEAD.
        old: The client speaks HTTP/1.0, which has no chunks.
        closes: The connection ends with this response.
        dateless: The server's own headers without Date, which are sent instead if ``headers`` have a Date.

    Returns:
        The head; the framing; the length of the body, if the framing is LENGTH; and whether the connection ends
        with this response, which the headers may ask for too.

    Raises:
        TypeError: A header is not of bytes.
        RuntimeError: The status or a header cannot be sent.
    """
    key = (status, to_head, old, closes, *headers)
    try:
        head = _heads.get(key)
    except TypeError:  # a header is a list, or is no header at all
        head = _make(key)
    else:
        head = head or _learn_head(key)
    line, dated, rest, framing, length, closes = head
    return line + (dateless if dated else date) + rest, framing, length, closes


def _learn_head(key: _HeadKey) -> _Head:
    """As `_make`; and remember it, if it is short."""
    head = _make(key)
    if len(head[2]) <= _HEAD_MAX and all(pair in _known for pair in key[4:]):
        if len(_heads) >= _HEADS_MAX:
            _heads.clear()
        _heads[key] = head
    return head


def _make(key: _HeadKey) -> _Head:
    """Make a head of all but the date. Errors are those of `head_of`."""
    status, to_head, old, closes, *headers = key
    first = STATUS_LINES.get(status)
    if first is None:
        raise RuntimeError(f"a response has a status from 200 to 599, not {status!r}")
    lines: list[bytes] = []
    length = -1
    dated = chunked = said_close = False
    for pair in headers:
        try:
            known = _known.get(pair)
        except TypeError:
            known = None
        line, effect = known or _learn(pair)
        if effect != _NOTHING:
            if effect >= 0:
                if length >= 0:
                    raise RuntimeError("a response has one Content-Length, not two")
                length = effect
            elif effect == _CHUNKS:
                if chunked:
                    raise RuntimeError("a response has one Transfer-Encoding, not two")
                chunked = True
            elif effect == _CLOSES:
                closes = said_close = True
            else:
                dated = True
        lines.append(line)
    if closes and not said_close:
        lines.append(b"connection: close\r\n")
    if chunked or to_head or length < 0 or status == 204 or status == 304:  # noqa: PLR1714 - quicker than a set
        framing = _unusual(lines, status, length, chunked=chunked, to_head=to_head, old=old)
    else:
        framing = LENGTH
    lines.append(b"\r\n")
    return first, dated, b"".join(lines), framing, length, closes


def _unusual(lines: list[bytes], status: int, length: int, *, chunked: bool, to_head: bool, old: bool) -> int:
    """The framing of a response with no length, or without a body; corrects the headers about it (RFC 9112, 6)."""
    has_none = status in {204, 304}
    if chunked and (has_none or old):
        _drop(lines, _ENCODING)
    if length >= 0 and (status == 204 or (chunked and not old)):
        _drop(lines, _LENGTH)
    if has_none or to_head:
        return NONE
    if old:
        return LENGTH if length >= 0 else CLOSE
    if not chunked:
        lines.append(b"transfer-encoding: chunked\r\n")
    return CHUNKED


def _drop(lines: list[bytes], name: re.Pattern[bytes]) -> None:
    lines[:] = [line for line in lines if not name.match(line)]


def _learn(pair: Any) -> tuple[bytes, int]:
    """Return a header as it is sent, and what it means for the response; remember both."""
    name, value = pair
    line = field(name, value)
    name = name.lower()
    effect = _NOTHING
    if name == b"content-length":
        if not value.isdigit() or len(value) > _DIGITS_MAX:
            raise RuntimeError(f"{value!r} is no Content-Length")
        effect = int(value)
    elif name == b"transfer-encoding":
        # With any other coding, a client reads to the end of the connection, whatever the length: RFC 9112, 6.3.
        if value.strip(b" \t").lower() != b"chunked":
            raise RuntimeError(f"the Transfer-Encoding of a response can only be chunked, not {value!r}")
        effect = _CHUNKS
    elif name == b"connection" and b"close" in [token.strip() for token in value.lower().split(b",")]:
        effect = _CLOSES
    elif name == b"date":
        effect = _DATE
    if type(pair) is tuple and type(name) is type(value) is bytes and len(value) <= _KNOWN_VALUE_MAX:
        if len(_known) >= _KNOWN_MAX:
            _known.clear()
        _known[pair] = line, effect
    return line, effect


def field(name: Any, value: Any) -> bytes:
    """A header as it is sent.

    Raises:
        TypeError: They are not bytes.
        RuntimeError: The name or the value cannot be sent.
    """
    if not (isinstance(name, bytes | bytearray) and isinstance(value, bytes | bytearray)):
        raise TypeError(f"the name and the value of a header are bytes, not {name!r} and {value!r}")
    if not _NAME(name):
        raise RuntimeError(f"{name!r} is not the name of a header")
    if _CONTROL(value):
        raise RuntimeError(f"{value!r} is not the value of a header: it has a control character")
    return b"%b: %b\r\n" % (bytes(name).lower(), bytes(value))


def with_length(head: bytes, length: int) -> bytes:
    """Add the length of the body to a head."""
    return b"%bcontent-length: %d\r\n\r\n" % (head[:-2], length)


def early_hints(links: Iterable[Any]) -> bytes:
    """An informational response with which a client can load what it will need: RFC 8297.

    Raises:
        RuntimeError: A link cannot be the value of a header.
    """
    return b"HTTP/1.1 103 Early Hints\r\n%b\r\n" % b"".join(field(b"link", link) for link in links)


def trailers(headers: Iterable[Any]) -> bytes:
    """The last chunk, with the trailer fields behind it.

    Raises:
        RuntimeError: A trailer cannot be sent.
    """
    return b"0\r\n%b\r\n" % b"".join(field(name, value) for name, value in headers)


_REFUSALS = {
    400: b"Invalid HTTP request received.",
    413: b"The body of the request is too large.",
    431: b"The head of the request is too large.",
}


def refusal(date: bytes, status: int) -> bytes:
    """The whole response to what is refused before the application gets it; the connection ends with it."""
    told = _REFUSALS[status]
    return b"%b%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        STATUS_LINES[status],
        date,
        len(told),
        told,
    )
