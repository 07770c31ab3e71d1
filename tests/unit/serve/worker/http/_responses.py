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
_OK = b"HTTP/1.1 200 OK\r\n"
_ONE = _OK + b"content-length: 1\r\n\r\n"
_IN_CHUNKS = _OK + b"transfer-encoding: chunked\r\n\r\n"


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


def _fails(*messages, out=b"", at=None, better=()):
    """`send` raises for the last message, and the connection ends."""
    at = len(messages) - 1 if at is None else at
    return Case(messages, out, "ended", at, better=better)


def _refused(name=b"x-a", value=b"v"):
    """A header field that the server refuses.

    uvicorn then closes the connection without a response: it takes the response for started before it checks the
    fields. A 500 is better, since nothing has been sent.
    """
    return _fails(start(200, (name, value)), better=((FAILED, "ended", 0),))


def _field(name, value, out):
    """A header field that the server sends on, in a response without a body."""
    messages = (start(200, length(0), (name, value)), part())
    return Case(messages, _OK + b"content-length: 0\r\n" + out + b"\r\n\r\n")


_NO_START = (FAILED, "ended", 0)
_AS_500 = {"better": ((FAILED, "ended", 0),)}

ORDER = {
    "body before start": _fails(part(b"x"), out=FAILED),
    "unknown type first": _fails({"type": "http.nonsense"}, out=FAILED),
    "a message without a type": _fails({}, out=FAILED),
    "start twice": _fails(start(), start(), out=_IN_CHUNKS),
    "unknown type after the start": _fails(start(), {"type": "http.nonsense"}, out=_IN_CHUNKS),
    "a message of WebSockets": _fails({"type": "websocket.accept"}, out=FAILED),
    "body after the end": _fails(start(200, length(1)), part(b"x"), part(b"y"), out=_ONE + b"x"),
    "start after the end": _fails(start(200, length(1)), part(b"x"), start(), out=_ONE + b"x"),
    "unknown type after the end": _fails(
        start(200, length(1)), part(b"x"), {"type": "http.nonsense"}, out=_ONE + b"x"
    ),
}

STATUS = {
    "404 from http.HTTPStatus": Case(
        (start(http.HTTPStatus.NOT_FOUND, length(1)), part(b"x")),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx",
    ),
    "299": Case((start(299, length(1)), part(b"x")), b"HTTP/1.1 299 \r\ncontent-length: 1\r\n\r\nx"),
    "599": Case((start(599, length(1)), part(b"x")), b"HTTP/1.1 599 \r\ncontent-length: 1\r\n\r\nx"),
    "600": _fails(start(600), better=(_NO_START,)),
    "99": _fails(start(99), better=(_NO_START,)),
    "1000": _fails(start(1000), better=(_NO_START,)),
    "none": _fails({"type": "http.response.start"}, better=(_NO_START,)),
    "text": _fails(start("200"), better=(_NO_START,)),
    "None": _fails(start(None), better=(_NO_START,)),
    # uvicorn sends an interim response as a final one, with a body; its client waits for another.
    **{
        str(status): Case(
            (start(status), part(b"x")),
            b"HTTP/1.1 %d %b\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" % (status, reason),
            better=(_NO_START,),
        )
        for status, reason in {100: b"Continue", 101: b"Switching Protocols", 103: b"Early Hints"}.items()
    },
    "204": Case((start(204), part()), b"HTTP/1.1 204 No Content\r\n\r\n"),
    "204 with a length of 0": Case(
        (start(204, length(0)), part()),
        b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
        better=((b"HTTP/1.1 204 No Content\r\n\r\n", "kept", None),),
    ),
    "204 with a body": _fails(
        start(204),
        part(b"x"),
        out=b"HTTP/1.1 204 No Content\r\n\r\n",
        better=((b"HTTP/1.1 204 No Content\r\n\r\n", "kept", None),),
    ),
    "304": Case((start(304), part()), b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "304 with a body": _fails(
        start(304),
        part(b"x"),
        out=b"HTTP/1.1 304 Not Modified\r\n\r\n",
        better=((b"HTTP/1.1 304 Not Modified\r\n\r\n", "kept", None),),
    ),
    # RFC 9110 8.6: a 304 may state the length that a 200 would have. uvicorn takes the body for too short.
    "304 with the length of a 200": _fails(
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

FIELDS = {
    "no fields": Case(
        ({"type": "http.response.start", "status": 200}, part(b"x")), _IN_CHUNKS + b"1\r\nx\r\n0\r\n\r\n"
    ),
    "a tuple of fields": Case(
        ({"type": "http.response.start", "status": 200, "headers": (length(1),)}, part(b"x")), _ONE + b"x"
    ),
    "fields that are lists": Case(
        ({"type": "http.response.start", "status": 200, "headers": [list(length(1))]}, part(b"x")), _ONE + b"x"
    ),
    "fields that are the items of a dict": Case(
        ({"type": "http.response.start", "status": 200, "headers": dict([length(1)]).items()}, part(b"x")),
        _ONE + b"x",
    ),
    "fields that are None": _fails(
        {"type": "http.response.start", "status": 200, "headers": None}, better=(_NO_START,)
    ),
    "a field with three items": _fails(
        {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b", b"c")]}, better=(_NO_START,)
    ),
    "repeats, in order": Case(
        (start(200, (b"b", b"1"), (b"a", b"2"), (b"b", b"3"), length(0)), part()),
        _OK + b"b: 1\r\na: 2\r\nb: 3\r\ncontent-length: 0\r\n\r\n",
    ),
    # ASGI says that names are lower case; uvicorn lowers them.
    "an upper case name": _field(b"X-Upper", b"Value", b"x-upper: Value"),
    "an empty value": _field(b"x-a", b"", b"x-a: "),
    "a tab in a value": _field(b"x-a", b"a\tb", b"x-a: a\tb"),
    "no ASCII in a value": _field(b"x-a", b"\xe9", b"x-a: \xe9"),
    "space around a value": _field(b"x-a", b" a ", b"x-a:  a "),
    "a bytearray": _field(b"x-a", bytearray(b"a"), b"x-a: a"),
    "its own date": _field(b"x-date", b"then", b"x-date: then"),
    "its own server": _field(b"server", b"mine", b"server: mine"),
    "keep-alive": _field(b"connection", b"keep-alive", b"connection: keep-alive"),
    **{
        f"{what} in a name": _refused(name=b"x" + char + b"a")
        for what, char in {
            "CR": b"\r",
            "LF": b"\n",
            "CR LF": b"\r\n",
            "NUL": b"\0",
            "space": b" ",
            "tab": b"\t",
            "colon": b":",
            "DEL": b"\x7f",
            "backslash": b"\\",
            "bracket": b"(",
        }.items()
    },
    **{
        f"{what} in a value": _refused(value=b"a" + char + b"b")
        for what, char in {
            "CR": b"\r",
            "LF": b"\n",
            "CR LF": b"\r\n",
            "NUL": b"\0",
            "DEL": b"\x7f",
            "ESC": b"\x1b",
        }.items()
    },
    "a name that is text": _refused(name="x-a"),
    "a value that is text": _refused(value="a"),
    "a value that is a number": _refused(value=5),
    # uvicorn sends these names on, although RFC 9110 5.1 does not allow them.
    "empty name": Case(
        (start(200, length(0), (b"", b"v")), part()),
        _OK + b"content-length: 0\r\n: v\r\n\r\n",
        better=(_NO_START,),
    ),
    "no ASCII in a name": Case(
        (start(200, length(0), (b"x\xff", b"v")), part()),
        _OK + b"content-length: 0\r\nx\xff: v\r\n\r\n",
        better=(_NO_START,),
    ),
    "a slash in a name": Case(
        (start(200, length(0), (b"x/a", b"v")), part()),
        _OK + b"content-length: 0\r\nx/a: v\r\n\r\n",
        better=(_NO_START,),
    ),
}

LENGTH = {
    "exact": Case((start(200, length(3)), part(b"xyz")), _OK + b"content-length: 3\r\n\r\nxyz"),
    "exact, in parts": Case(
        (start(200, length(3)), part(b"x", more=True), part(b"yz", more=True), part()),
        _OK + b"content-length: 3\r\n\r\nxyz",
    ),
    # The server sends nothing of that part: the client would take it for the next response.
    "body too long": _fails(start(200, length(1)), part(b"xyz"), out=_ONE),
    "second part too long": _fails(start(200, length(1)), part(b"x", more=True), part(b"y"), out=_ONE + b"x"),
    # The server may send the last part or not: the response is cut either way.
    "body too short": _fails(
        start(200, length(5)),
        part(b"xyz"),
        out=_OK + b"content-length: 5\r\n\r\nxyz",
        better=((_OK + b"content-length: 5\r\n\r\n", "ended", 1), (FAILED, "ended", 1)),
    ),
    "parts too short": _fails(
        start(200, length(5)),
        part(b"x", more=True),
        part(b"y"),
        out=_OK + b"content-length: 5\r\n\r\nxy",
        better=((_OK + b"content-length: 5\r\n\r\nx", "ended", 2),),
    ),
    "letters": _fails(start(200, (b"content-length", b"abc")), **_AS_500),
    "empty": _fails(start(200, (b"content-length", b"")), **_AS_500),
    "negative": _fails(
        start(200, (b"content-length", b"-1")), part(), out=_OK + b"content-length: -1\r\n\r\n", **_AS_500
    ),
    # int() reads these numbers and HTTP does not allow them; uvicorn sends them on.
    "with a plus": Case(
        (start(200, (b"content-length", b"+1")), part(b"x")), _OK + b"content-length: +1\r\n\r\nx", **_AS_500
    ),
    "with an underscore": Case(
        (start(200, (b"content-length", b"1_0")), part(b"x" * 10)),
        _OK + b"content-length: 1_0\r\n\r\n" + b"x" * 10,
        **_AS_500,
    ),
    "twice the same": Case(
        (start(200, length(1), length(1)), part(b"x")),
        _OK + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx",
        better=(_NO_START, (_ONE + b"x", "kept", None)),
    ),
    # uvicorn counts by the first one; RFC 9112 6.3: a client must take two for an error.
    "twice, different": Case(
        (start(200, length(1), length(2)), part(b"x")),
        _OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nx",
        **_AS_500,
    ),
}

_DONE = b"1\r\nx\r\n0\r\n\r\n"
CODING = {
    "chunked by the application": Case((start(200, CHUNKED), part(b"x")), _IN_CHUNKS + _DONE),
    "chunked in capitals": Case(
        (start(200, (b"Transfer-Encoding", b"Chunked")), part(b"x")),
        _OK + b"transfer-encoding: Chunked\r\n\r\n" + _DONE,
        better=((_IN_CHUNKS + _DONE, "kept", None),),
    ),
    # uvicorn sends both fields, which RFC 9112 6.1 forbids; the body is chunked.
    "chunked, then a length": Case(
        (start(200, CHUNKED, length(1)), part(b"x")),
        _OK + b"transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n" + _DONE,
        better=((_IN_CHUNKS + _DONE, "kept", None), (_ONE + b"x", "kept", None), _NO_START),
    ),
    "a length, then chunked": Case(
        (start(200, length(1), CHUNKED), part(b"x")),
        _OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n" + _DONE,
        better=((_IN_CHUNKS + _DONE, "kept", None), (_ONE + b"x", "kept", None), _NO_START),
    ),
    # uvicorn adds a second field, chunked, to a coding that it does not know.
    "gzip, chunked": Case(
        (start(200, (b"transfer-encoding", b"gzip, chunked")), part(b"x")),
        _OK + b"transfer-encoding: gzip, chunked\r\ntransfer-encoding: chunked\r\n\r\n" + _DONE,
        better=((_OK + b"transfer-encoding: gzip, chunked\r\n\r\n" + _DONE, "kept", None), _NO_START),
    ),
    "identity": Case(
        (start(200, (b"transfer-encoding", b"identity")), part(b"x")),
        _OK + b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n" + _DONE,
        better=((_IN_CHUNKS + _DONE, "kept", None), _NO_START),
    ),
}

BODY = {
    "no body key": Case((start(), {"type": "http.response.body"}), _IN_CHUNKS + b"0\r\n\r\n"),
    "no fields, no body": Case((start(), part()), _IN_CHUNKS + b"0\r\n\r\n"),
    "empty parts make no chunks": Case(
        (start(), part(more=True), part(b"a", more=True), part(more=True), part()),
        _IN_CHUNKS + b"1\r\na\r\n0\r\n\r\n",
    ),
    "more_body that is not a bool": Case(
        (start(), {"type": "http.response.body", "body": b"x", "more_body": 1}, part()), _IN_CHUNKS + _DONE
    ),
    "more_body None": Case(
        (start(), {"type": "http.response.body", "body": b"x", "more_body": None}), _IN_CHUNKS + _DONE
    ),
    "a bytearray": Case((start(200, length(1)), part(bytearray(b"x"))), _ONE + b"x"),
    "a memoryview": Case((start(200, length(1)), part(memoryview(b"x"))), _ONE + b"x"),
    # len() of this view is 1; uvicorn compares that with the length, after it has sent all 8 bytes.
    "a memoryview of words": _fails(
        start(200, length(8)),
        part(memoryview(b"12345678").cast("q")),
        out=_OK + b"content-length: 8\r\n\r\n12345678",
        better=(
            (_OK + b"content-length: 8\r\n\r\n12345678", "kept", None),
            (_OK + b"content-length: 8\r\n\r\n", "ended", 1),
            (FAILED, "ended", 1),
        ),
    ),
    "a bytearray in chunks": Case((start(), part(bytearray(b"x"))), _IN_CHUNKS + _DONE),
    "text": _fails(start(200, length(1)), part("x"), out=_ONE),
    "text in chunks": _fails(start(), part("x"), out=_IN_CHUNKS),
    "None": _fails(start(200, length(1)), part(None), out=_ONE),
    "a size in hexadecimal": Case(
        (start(), part(b"x" * 255, more=True), part()), _IN_CHUNKS + b"ff\r\n" + b"x" * 255 + b"\r\n0\r\n\r\n"
    ),
    "connection: close": Case(
        (start(200, length(1), CLOSE), part(b"x")),
        _OK + b"content-length: 1\r\nconnection: close\r\n\r\nx",
        "ended",
    ),
    "connection: close in capitals and a list": Case(
        (start(200, length(1), (b"Connection", b"Close, x")), part(b"x")),
        _OK + b"content-length: 1\r\nconnection: Close, x\r\n\r\nx",
        "ended",
    ),
}

HEAD = {
    "no fields": Case((start(), part(b"x")), _OK + b"\r\n", better=((_IN_CHUNKS, "kept", None),)),
    "a length": Case((start(200, length(3)), part(b"xyz")), _OK + b"content-length: 3\r\n\r\n"),
    "a length, and no body": Case((start(200, length(3)), part()), _OK + b"content-length: 3\r\n\r\n"),
    "a length, and another body": Case((start(200, length(3)), part(b"x")), _OK + b"content-length: 3\r\n\r\n"),
    "chunked": Case((start(200, CHUNKED), part(b"x", more=True), part()), _IN_CHUNKS),
    "204": Case((start(204), part()), b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304 with a length": Case(
        (start(304, length(5)), part()), b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"
    ),
    "body before start": _fails(part(b"x"), out=FAILED.removesuffix(b"Internal Server Error")),
    "body after the end": _fails(
        start(200, length(1)), part(b"x"), part(b"y"), out=_OK + b"content-length: 1\r\n\r\n"
    ),
}
