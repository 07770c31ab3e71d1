"""Where a request ends in a stream of bytes: enough of RFC 9112 to tell, and no more. Sans-IO.

`serve.worker.http` reads what a request says. This file only finds the request's end, so that no byte of one
request is taken for a byte of the next. An unusual request makes its connection *opaque*: the worker serves the
request, but nobody knows where it ends.
"""

from __future__ import annotations

import re

_HEAD_MAX = 64 * 1024
_LINE_MAX = 4096
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.ASCII)
_CHUNKED = re.compile(rb"\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n")
_WEBSOCKET = re.compile(rb"\nupgrade:[^\n]*websocket")
_HAS_BODY = re.compile(rb"\n(?:content-length|transfer-encoding)")
_UPGRADES = re.compile(rb"\n(?:proxy-)?connection:[^\n]*upgrade")  # else an Upgrade header means nothing
_CONNECTION = re.compile(rb"(?:proxy-)?connection:", re.IGNORECASE)  # as a trailer, llhttp takes it for a header
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")


# What comes next of a request.
_HEAD = 0
_BODY = 1
_SIZE_LINE = 2  # before a chunk
_CHUNK = 3  # with its line end
_TRAILER = 4  # a line of it


def is_special(head: bytes) -> bool:
    """Whether a head, in lower case and without its last line end, says more than that nothing follows it."""
    # find() and not ``in``: that first takes what it looks for to be a number, and raises and drops an error.
    find = head.find
    return (
        find(b"\ncontent-length") >= 0
        or find(b"\ntransfer-encoding") >= 0
        or find(b"\nupgrade:") >= 0
        or _is_odd(head)
    )


def _is_odd(head: bytes) -> bool:
    """Whether parsers may read a head differently, or something else than a request's body follows it."""
    find = head.find
    return (
        find(b"\n ") >= 0  # a line that goes on
        or find(b"\n\t") >= 0
        or head.count(b"\n") != head.count(b"\r\n")  # a bare LF ends a line for some parsers
        or head.startswith((b"\r", b"connect ", b"pri "))  # PRI: the preface of HTTP/2 (RFC 9113, 3.4) has a body
    )


class RequestEnd:
    """Finds the end of one request after the other.

    Attributes:
        complete: The request that began last has come to its end.
        blank: Since then only empty lines have come, which are no part of a request (RFC 9112, 2.2).
        opaque: It is not known any more where requests end.
        websocket: The request that was complete last asks for a WebSocket.
    """

    __slots__ = ("_left", "_line", "_part", "blank", "complete", "opaque", "websocket")

    def __init__(self) -> None:
        self.complete = True
        self.blank = self.opaque = self.websocket = False
        self._part = _HEAD
        self._left = 0  # bytes of a body or chunk that are still to come
        self._line = b""  # what has come of a head or line

    def feed(self, data: bytes) -> int:
        """Return how many of these bytes belong to the present request; after a complete one the next begins.

        Empty lines before a request belong to it; if nothing else has come, this request is complete and `blank`.
        """
        self.complete = self.websocket = False
        if self.opaque:
            return len(data)
        used = 0
        if self._part == _HEAD:
            used = self._head(data)
        while not (self.complete or self.opaque) and used < len(data):
            used = self._body(data, used)
        if self.complete:
            self._part = _HEAD
        return len(data) if self.opaque else used

    def _head(self, data: bytes) -> int:
        """Look for the end of the head, and for what follows it. Returns how many bytes were used."""
        whole = self._line + data if self._line else data
        start = 0
        while whole.startswith(b"\r\n", start):
            start += 2
        self.blank = self.complete = start == len(whole)
        if self.blank:
            self._line = b""
            return len(data)
        end = whole.find(b"\r\n\r\n", start)
        if end < 0:
            self._line = whole
            self.opaque = len(whole) > _HEAD_MAX or whole.count(b"\n") != whole.count(b"\r\n")
            return len(data)
        used = end + 4 - len(self._line)
        self._line = b""
        head = whole[start : end + 2].lower()
        if is_special(head):
            self._special(head)
            if self.websocket and end + 4 < len(whole):  # the client must wait for the answer: RFC 6455, 4.1
                self.opaque, self.complete, self.websocket = True, False, False
        else:
            self.complete = True
        return used

    def _special(self, head: bytes) -> None:
        """Find out what follows a head that `is_special`. One that parsers may read differently is opaque."""
        if _is_odd(head):
            self.opaque = True
        elif b"\nupgrade:" in head and _WEBSOCKET.search(head) and _UPGRADES.search(head):
            self.websocket = head.startswith(b"get ") and not _HAS_BODY.search(head)
            self.complete = self.websocket
            self.opaque = not self.websocket
        elif b"\ntransfer-encoding" in head:
            self._part = _SIZE_LINE
            once = head.count(b"\ntransfer-encoding") == 1 and b"\ncontent-length" not in head
            self.opaque = not (once and _CHUNKED.search(head))
        elif b"\ncontent-length" not in head:
            self.complete = True  # it asks for a protocol that we do not speak, and gets an answer in this one
        else:
            length = _LENGTH.search(head)
            self.opaque = length is None or head.count(b"\ncontent-length") != 1
            self._part = _BODY
            self._left = int(length[1]) if length else 0
            self.complete = not (self._left or self.opaque)

    def _body(self, data: bytes, used: int) -> int:
        """Skip the next piece behind a head, from ``used`` on. Returns how many bytes are used then."""
        if self._left:
            taken = min(self._left, len(data) - used)
            self._left -= taken
            if not self._left:
                self.complete = self._part == _BODY
                self._part = _SIZE_LINE
            return used + taken
        end = data.find(b"\n", used) + 1
        line = self._line + data[used : end or len(data)]
        if not end:
            self._line = line
            self.opaque = len(line) > _LINE_MAX
            return len(data)
        self._line = b""
        if self._part == _TRAILER and line[-2:] == b"\r\n":
            self.complete = line == b"\r\n"
            self.opaque = _CONNECTION.match(line) is not None
        elif size := _SIZE.fullmatch(line):
            number = int(size[1], 16)
            self._part = _CHUNK if number else _TRAILER
            self._left = number + 2 if number else 0
        else:
            self.opaque = True
        return end
