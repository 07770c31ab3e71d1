"""The tables of test_responses.py: the messages that an application sends, and the bytes that the client gets."""

import http
from dataclasses import dataclass, field

from ._apps import length, part, start

FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 21\r\nconnection: close\r\n\r\nInternal Server Error"
)
CHUNKED = (b"transfer-encoding", b"chunked")
CLOSE = (b"connection", b"close")
OK = b"HTTP/1.1 200 OK\r\n"
ONE = OK + b"content-length: 1\r\n\r\n"
IN_CHUNKS = OK + b"transfer-encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """One response.

    Attributes:
        messages: What the application sends; it stops at the first error.
        out: The bytes that the client gets, without the date.
        end: ``kept`` or ``ended``: see `Client.outcome`.
        fails: The number of the message for which `send` raises; None if all are sent.
        better: Other outcomes that fdpass may have, each as (out, end, fails).
    """

    messages: tuple
    out: bytes
    end: str = "kept"
    fails: int | None = None
    better: tuple = field(default=(), kw_only=True)


def fails_with(*messages, out=b"", at=None, better=()):
    """`send` raises for the last message, and the connection ends."""
    at = len(messages) - 1 if at is None else at
    return Case(messages, out, "ended", at, better=better)


INSTEAD_500 = (FAILED, "ended", 0)
_AS_500 = {"better": ((FAILED, "ended", 0),)}

ORDER = {
    "body before start": fails_with(part(b"x"), out=FAILED),
    "unknown type first": fails_with({"type": "http.nonsense"}, out=FAILED),
    "a message without a type": fails_with({}, out=FAILED),
    "start twice": fails_with(start(), start(), out=IN_CHUNKS),
    "unknown type after the start": fails_with(start(), {"type": "http.nonsense"}, out=IN_CHUNKS),
    "a message of WebSockets": fails_with({"type": "websocket.accept"}, out=FAILED),
    "body after the end": fails_with(start(200, length(1)), part(b"x"), part(b"y"), out=ONE + b"x"),
    "start after the end": fails_with(start(200, length(1)), part(b"x"), start(), out=ONE + b"x"),
    "unknown type after the end": fails_with(
        start(200, length(1)), part(b"x"), {"type": "http.nonsense"}, out=ONE + b"x"
    ),
}

STATUS = {
    "404 from http.HTTPStatus": Case(
        (start(http.HTTPStatus.NOT_FOUND, length(1)), part(b"x")),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx",
    ),
    "299": Case((start(299, length(1)), part(b"x")), b"HTTP/1.1 299 \r\ncontent-length: 1\r\n\r\nx"),
    "599": Case((start(599, length(1)), part(b"x")), b"HTTP/1.1 599 \r\ncontent-length: 1\r\n\r\nx"),
    "600": fails_with(start(600), better=(INSTEAD_500,)),
    "99": fails_with(start(99), better=(INSTEAD_500,)),
    "1000": fails_with(start(1000), better=(INSTEAD_500,)),
    "none": fails_with({"type": "http.response.start"}, better=(INSTEAD_500,)),
    "text": fails_with(start("200"), better=(INSTEAD_500,)),
    "None": fails_with(start(None), better=(INSTEAD_500,)),
    # uvicorn sends an interim response as a final one, with a body; its client waits for another.
    **{
        str(status): Case(
            (start(status), part(b"x")),
            b"HTTP/1.1 %d %b\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" % (status, reason),
            better=(INSTEAD_500,),
        )
        for status, reason in {100: b"Continue", 101: b"Switching Protocols", 103: b"Early Hints"}.items()
    },
    "204": Case((start(204), part()), b"HTTP/1.1 204 No Content\r\n\r\n"),
    "204 with a length of 0": Case(
        (start(204, length(0)), part()),
        b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
        better=((b"HTTP/1.1 204 No Content\r\n\r\n", "kept", None),),
    ),
    "204 with a body": fails_with(
        start(204),
        part(b"x"),
        out=b"HTTP/1.1 204 No Content\r\n\r\n",
        better=((b"HTTP/1.1 204 No Content\r\n\r\n", "kept", None),),
    ),
    "304": Case((start(304), part()), b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "304 with a body": fails_with(
        start(304),
        part(b"x"),
        out=b"HTTP/1.1 304 Not Modified\r\n\r\n",
        better=((b"HTTP/1.1 304 Not Modified\r\n\r\n", "kept", None),),
    ),
    # RFC 9110 8.6: a 304 may state the length that a 200 would have. uvicorn takes the body for too short.
    "304 with the length of a 200": fails_with(
        start(304, length(5)),
        part(),
        out=b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
        better=((b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "kept", None),),
    ),
    "205": Case(
        (start(205), part()),
        b"HTTP/1.1 205 Reset Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        better=((b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n", "kept", None),),
    ),
}

LENGTH = {
    "exact": Case((start(200, length(3)), part(b"xyz")), OK + b"content-length: 3\r\n\r\nxyz"),
    "exact, in parts": Case(
        (start(200, length(3)), part(b"x", more=True), part(b"yz", more=True), part()),
        OK + b"content-length: 3\r\n\r\nxyz",
    ),
    # The server sends nothing of that part: the client would take it for the next response.
    "body too long": fails_with(start(200, length(1)), part(b"xyz"), out=ONE),
    "second part too long": fails_with(start(200, length(1)), part(b"x", more=True), part(b"y"), out=ONE + b"x"),
    # The server may send the last part or not: the response is cut either way.
    "body too short": fails_with(
        start(200, length(5)),
        part(b"xyz"),
        out=OK + b"content-length: 5\r\n\r\nxyz",
        better=((OK + b"content-length: 5\r\n\r\n", "ended", 1), (FAILED, "ended", 1)),
    ),
    "parts too short": fails_with(
        start(200, length(5)),
        part(b"x", more=True),
        part(b"y"),
        out=OK + b"content-length: 5\r\n\r\nxy",
        better=((OK + b"content-length: 5\r\n\r\nx", "ended", 2),),
    ),
    "letters": fails_with(start(200, (b"content-length", b"abc")), **_AS_500),
    "empty": fails_with(start(200, (b"content-length", b"")), **_AS_500),
    "negative": fails_with(
        start(200, (b"content-length", b"-1")), part(), out=OK + b"content-length: -1\r\n\r\n", **_AS_500
    ),
    # int() reads these numbers and HTTP does not allow them; uvicorn sends them on.
    "with a plus": Case(
        (start(200, (b"content-length", b"+1")), part(b"x")), OK + b"content-length: +1\r\n\r\nx", **_AS_500
    ),
    "with an underscore": Case(
        (start(200, (b"content-length", b"1_0")), part(b"x" * 10)),
        OK + b"content-length: 1_0\r\n\r\n" + b"x" * 10,
        **_AS_500,
    ),
    "twice the same": Case(
        (start(200, length(1), length(1)), part(b"x")),
        OK + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx",
        better=(INSTEAD_500, (ONE + b"x", "kept", None)),
    ),
    # uvicorn counts by the first one; RFC 9112 6.3: a client must take two for an error.
    "twice, different": Case(
        (start(200, length(1), length(2)), part(b"x")),
        OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx",
        **_AS_500,
    ),
}

_DONE = b"1\r\nx\r\n0\r\n\r\n"
CODING = {
    "chunked by the application": Case((start(200, CHUNKED), part(b"x")), IN_CHUNKS + _DONE),
    "chunked in capitals": Case(
        (start(200, (b"Transfer-Encoding", b"Chunked")), part(b"x")),
        OK + b"transfer-encoding: Chunked\r\n\r\n" + _DONE,
        better=((IN_CHUNKS + _DONE, "kept", None),),
    ),
    # uvicorn sends both fields, which RFC 9112 6.1 forbids; the body is chunked.
    "chunked, then a length": Case(
        (start(200, CHUNKED, length(1)), part(b"x")),
        OK + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n" + _DONE,
        better=((IN_CHUNKS + _DONE, "kept", None), (ONE + b"x", "kept", None), INSTEAD_500),
    ),
    "a length, then chunked": Case(
        (start(200, length(1), CHUNKED), part(b"x")),
        OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n" + _DONE,
        better=((IN_CHUNKS + _DONE, "kept", None), (ONE + b"x", "kept", None), INSTEAD_500),
    ),
    # uvicorn adds a second field, chunked, to a coding that it does not know.
    "gzip, chunked": Case(
        (start(200, (b"transfer-encoding", b"gzip, chunked")), part(b"x")),
        OK + b"transfer-encoding: gzip, chunked\r\ntransfer-encoding: chunked\r\n\r\n" + _DONE,
        better=((OK + b"transfer-encoding: gzip, chunked\r\n\r\n" + _DONE, "kept", None), INSTEAD_500),
    ),
    "identity": Case(
        (start(200, (b"transfer-encoding", b"identity")), part(b"x")),
        OK + b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n" + _DONE,
        better=((IN_CHUNKS + _DONE, "kept", None), INSTEAD_500),
    ),
}

BODY = {
    "no body key": Case((start(), {"type": "http.response.body"}), IN_CHUNKS + b"0\r\n\r\n"),
    "no fields, no body": Case((start(), part()), IN_CHUNKS + b"0\r\n\r\n"),
    "empty parts make no chunks": Case(
        (start(), part(more=True), part(b"a", more=True), part(more=True), part()),
        IN_CHUNKS + b"1\r\na\r\n0\r\n\r\n",
    ),
    "more_body that is not a bool": Case(
        (start(), {"type": "http.response.body", "body": b"x", "more_body": 1}, part()), IN_CHUNKS + _DONE
    ),
    "more_body None": Case(
        (start(), {"type": "http.response.body", "body": b"x", "more_body": None}), IN_CHUNKS + _DONE
    ),
    "a bytearray": Case((start(200, length(1)), part(bytearray(b"x"))), ONE + b"x"),
    "a memoryview": Case((start(200, length(1)), part(memoryview(b"x"))), ONE + b"x"),
    # len() of this view is 1; uvicorn compares that with the length, after it has sent all 8 bytes.
    "a memoryview of words": fails_with(
        start(200, length(8)),
        part(memoryview(b"12345678").cast("q")),
        out=OK + b"content-length: 8\r\n\r\n12345678",
        better=(
            (OK + b"content-length: 8\r\n\r\n12345678", "kept", None),
            (OK + b"content-length: 8\r\n\r\n", "ended", 1),
            (FAILED, "ended", 1),
        ),
    ),
    "a bytearray in chunks": Case((start(), part(bytearray(b"x"))), IN_CHUNKS + _DONE),
    "text": fails_with(start(200, length(1)), part("x"), out=ONE),
    "text in chunks": fails_with(start(), part("x"), out=IN_CHUNKS),
    "None": fails_with(start(200, length(1)), part(None), out=ONE),
    "a size in hexadecimal": Case(
        (start(), part(b"x" * 255, more=True), part()), IN_CHUNKS + b"ff\r\n" + b"x" * 255 + b"\r\n0\r\n\r\n"
    ),
    "connection: close": Case(
        (start(200, length(1), CLOSE), part(b"x")),
        OK + b"content-length: 1\r\nconnection: close\r\n\r\nx",
        "ended",
    ),
    "connection: close in capitals and a list": Case(
        (start(200, length(1), (b"Connection", b"Close, x")), part(b"x")),
        OK + b"content-length: 1\r\nconnection: Close, x\r\n\r\nx",
        "ended",
    ),
}

HEAD = {
    "no fields": Case((start(), part(b"x")), OK + b"\r\n", better=((IN_CHUNKS, "kept", None),)),
    "a length": Case((start(200, length(3)), part(b"xyz")), OK + b"content-length: 3\r\n\r\n"),
    "a length, and no body": Case((start(200, length(3)), part()), OK + b"content-length: 3\r\n\r\n"),
    "a length, and another body": Case((start(200, length(3)), part(b"x")), OK + b"content-length: 3\r\n\r\n"),
    "chunked": Case((start(200, CHUNKED), part(b"x", more=True), part()), IN_CHUNKS),
    "204": Case((start(204), part()), b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304 with a length": Case(
        (start(304, length(5)), part()), b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"
    ),
    "body before start": fails_with(part(b"x"), out=FAILED.removesuffix(b"Internal Server Error")),
    "body after the end": fails_with(
        start(200, length(1)), part(b"x"), part(b"y"), out=OK + b"content-length: 1\r\n\r\n"
    ),
}
