"""The table of header fields for test_responses.py."""

from ._apps import length, part, start
from ._responses import FAILED, IN_CHUNKS, INSTEAD_500, OK, ONE, Case, fails_with


def _refused(name=b"x-a", value=b"v"):
    """A header field that the server refuses.

    uvicorn then closes the connection without a response: it takes the response for started before it checks the
    fields. A 500 is better, since nothing has been sent.
    """
    return fails_with(start(200, (name, value)), better=((FAILED, "ended", 0),))


def _field(name, value, out):
    """A header field that the server sends on, in a response without a body."""
    messages = (start(200, length(0), (name, value)), part())
    return Case(messages, OK + b"content-length: 0\r\n" + out + b"\r\n\r\n")


FIELDS = {
    "no fields": Case(
        ({"type": "http.response.start", "status": 200}, part(b"x")), IN_CHUNKS + b"1\r\nx\r\n0\r\n\r\n"
    ),
    "a tuple of fields": Case(
        ({"type": "http.response.start", "status": 200, "headers": (length(1),)}, part(b"x")), ONE + b"x"
    ),
    "fields that are lists": Case(
        ({"type": "http.response.start", "status": 200, "headers": [list(length(1))]}, part(b"x")), ONE + b"x"
    ),
    "fields that are the items of a dict": Case(
        ({"type": "http.response.start", "status": 200, "headers": dict([length(1)]).items()}, part(b"x")),
        ONE + b"x",
    ),
    "fields that are None": fails_with(
        {"type": "http.response.start", "status": 200, "headers": None}, better=(INSTEAD_500,)
    ),
    "a field with three items": fails_with(
        {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b", b"c")]}, better=(INSTEAD_500,)
    ),
    "repeats, in order": Case(
        (start(200, (b"b", b"1"), (b"a", b"2"), (b"b", b"3"), length(0)), part()),
        OK + b"b: 1\r\na: 2\r\nb: 3\r\ncontent-length: 0\r\n\r\n",
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
        OK + b"content-length: 0\r\n: v\r\n\r\n",
        better=(INSTEAD_500,),
    ),
    "no ASCII in a name": Case(
        (start(200, length(0), (b"x\xff", b"v")), part()),
        OK + b"content-length: 0\r\nx\xff: v\r\n\r\n",
        better=(INSTEAD_500,),
    ),
    "a slash in a name": Case(
        (start(200, length(0), (b"x/a", b"v")), part()),
        OK + b"content-length: 0\r\nx/a: v\r\n\r\n",
        better=(INSTEAD_500,),
    ),
}
