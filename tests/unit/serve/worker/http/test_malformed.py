"""Malformed requests: the client gets 400, the server logs one line, and the connection ends."""

import asyncio

import pytest

from ._apps import Echo, Steps, length, part, start
from ._client import turns

EACH_KIND = True
GONE = {"type": "http.disconnect"}
BAD = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 30\r\nconnection: close\r\n\r\nInvalid HTTP request received."
)
LINE = "Invalid HTTP request received."
HOST = b"\r\nHost: x\r\n"
HEADS = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 9.9": b"GET / HTTP/9.9" + HOST + b"\r\n",
    "version 1": b"GET / HTTP/1" + HOST + b"\r\n",
    "a space at the start": b" GET / HTTP/1.1" + HOST + b"\r\n",
    "a name with a space": b"GET / HTTP/1.1" + HOST + b"x a: b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1" + HOST + b"x-a : b\r\n\r\n",
    "no colon": b"GET / HTTP/1.1" + HOST + b"nonsense\r\n\r\n",
    "no name": b"GET / HTTP/1.1" + HOST + b": b\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1" + HOST + b"x-a: b\r\n c\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1" + HOST + b"x-a: b\0c\r\n\r\n",
    "CR in a value": b"GET / HTTP/1.1" + HOST + b"x-a: b\rc\r\n\r\n",
    "LF between lines": b"GET / HTTP/1.1\nHost: x\n\n",
    "LF at the end of the head": b"GET / HTTP/1.1" + HOST + b"\n",
    "a length and chunks": b"POST / HTTP/1.1" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "two lengths that are the same": b"POST / HTTP/1.1"
    + HOST
    + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "a list of lengths": b"POST / HTTP/1.1" + HOST + b"Content-Length: 1, 1\r\n\r\na",
    "a length of letters": b"POST / HTTP/1.1" + HOST + b"Content-Length: a\r\n\r\n",
    "a length below 0": b"POST / HTTP/1.1" + HOST + b"Content-Length: -1\r\n\r\n",
    "a length with a plus": b"POST / HTTP/1.1" + HOST + b"Content-Length: +1\r\n\r\na",
    "a length without end": b"POST / HTTP/1.1" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "chunked, and then more": b"POST / HTTP/1.1" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1" + HOST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
}
CHUNKS = {
    "a size of letters": b"xyz\r\n",
    "a size below 0": b"-1\r\n",
    "a size with 0x": b"0x1\r\na\r\n",
    "a size without end": b"fffffffffffffffff\r\n",
    "no size": b"\r\n",
    "no CR LF behind a chunk": b"1\r\nab\r\n",
    "LF behind a size": b"1\na\r\n",
}
POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LENIENT = {  # llhttp accepts these; the version in the scope
    "no host": (b"GET / HTTP/1.1\r\n\r\n", "1.1"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "1.1"),
    "no version": (b"GET /\r\n\r\n", "0.9"),
    "HTTP/0.9 in numbers": (b"GET / HTTP/0.9\r\n\r\n", "0.9"),
    "HTTP/2.0 in numbers": (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "2.0"),
    "another protocol": (b"GET / RTSP/1.1\r\nHost: x\r\n\r\n", "1.1"),
    "two spaces": (b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n", "1.1"),
    "a value of latin-1": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: \xe9\r\n\r\n", "1.1"),
}


async def refused(serve, data):
    app = Echo()
    client = await serve(app)
    await client.send(data)
    assert await client.out() == (BAD, "closed")
    await serve.server.settled.wait()
    assert app.scopes == []
    assert serve.said(LINE)


@pytest.mark.parametrize("name", HEADS)
async def test_a_malformed_head_is_refused(serve, name):
    await refused(serve, HEADS[name])


@pytest.mark.parametrize("name", LENIENT)
async def test_a_strange_head_that_uvicorn_accepts(serve, name):
    data, version = LENIENT[name]
    app = Echo()
    client = await serve(app)
    await client.send(data)
    status = (await client.answer()).status
    serve.agreed(status, 200, 400, 505)
    assert [scope["http_version"] for scope in app.scopes] == ([version] if status == 200 else [])


async def test_a_head_whose_last_part_is_malformed_is_refused(serve):
    app = Echo()
    client = await serve(app)
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
    await turns(5)
    await client.send(b"no colon\r\n")
    assert await client.out() == (BAD, "closed")
    assert serve.said(LINE)


async def test_a_request_after_a_malformed_one_is_not_served(serve):
    app = Echo()
    client = await serve(app)
    await client.send(b"hello\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await client.out() == (BAD, "closed")
    await serve.server.settled.wait()
    assert app.scopes == []
    assert serve.said(LINE)


async def test_a_malformed_request_after_a_good_one_is_refused(serve):
    app = Echo()
    client = await serve(app)
    assert (await client.get()).body == b"ok"
    await client.send(b"hello\r\n\r\n")
    assert await client.out() == (BAD, "closed")
    assert len(app.scopes) == 1
    assert serve.said(LINE)


@pytest.mark.parametrize("name", CHUNKS)
async def test_a_malformed_chunk_is_refused(serve, name):
    """The application, which has been called, receives http.disconnect; its return is not logged."""
    app = Steps()
    client = await serve(app)
    await client.send(POST)
    call = await app.next()
    waiting = serve.task(call.receive())
    await client.send(CHUNKS[name])
    assert await client.out() == (BAD, "closed")
    message = await waiting
    while message != GONE:
        assert message["more_body"]
        message = await call.receive()
    call.end()
    await serve.over()
    assert serve.said(LINE)


async def test_a_malformed_chunk_after_the_start_of_the_response(serve):
    """uvicorn writes its 400 into the middle of the response. Better: the response is cut."""
    app = Steps()
    client = await serve(app)
    await client.send(POST)
    call = await app.next()
    await call.send(start(200, length(5)))
    await call.send(part(b"ab", more=True))
    await client.until(b"ab")
    await client.send(b"xyz\r\n")
    out, _ = await client.out()
    serve.agreed(out, BAD, b"")
    assert await call.receive() == GONE
    call.end()
    await serve.over()
    assert len(serve.lines) <= 1


async def test_a_malformed_chunk_after_the_response(serve):
    """uvicorn sends a 400, a second response to one request. Better: the connection just ends."""
    app = Steps()
    client = await serve(app)
    await client.send(POST)
    await (await app.next()).answer()
    assert (await client.answer()).body == b"ok"
    await client.send(b"xyz\r\n")
    out, _ = await client.out()
    serve.agreed(out, BAD, b"")
    assert len(serve.lines) <= 1


@pytest.mark.parametrize(
    ("fields", "version", "status"),
    [
        (b"", b"1.1", 400),
        (b"Host: x\r\nHost: x\r\n", b"1.1", 400),
        (b"Host: x\r\nhost:\r\n", b"1.1", 400),
        (b"Host: x\r\nHost: y\r\n", b"1.0", 400),
        (b"Host: x y\r\n", b"1.1", 400),
        (b"Host: x/y\r\n", b"1.1", 400),
        (b"Host: x@y\r\n", b"1.1", 400),
        (b"Host: x:y\r\n", b"1.1", 400),
        (b"Host: ::1\r\n", b"1.1", 400),
        (b"Host: \xc3\xa9\r\n", b"1.1", 400),
        (b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"1.1", 400),
        (b"", b"1.0", 200),
        (b"Host:\r\n", b"1.1", 200),
        (b"Host: a_b.example:8000\r\n", b"1.1", 200),
        (b"Host: [::1]:8000\r\n", b"1.1", 200),
        (b"Host: x:\r\n", b"1.1", 200),
        (b"Host: %C3%A9\r\n", b"1.1", 200),
    ],
)
async def test_a_host_is_needed_once_and_well_formed(serve, fields, version, status):
    """RFC 9112 3.2. uvicorn does not look at it."""
    app = Echo()
    client = await serve(app)
    for _ in range(2):  # the second time, its headers may be known
        await client.send(b"GET / HTTP/%b\r\n%b\r\n" % (version, fields))
        found = (await client.answer()).status
        if found == 400 or version == b"1.0":
            break
    if not serve.reference:
        assert (found, bool(app.scopes), len(serve.lines)) == (status, status == 200, status != 200)


@pytest.mark.parametrize("size", [10_000, 60_000, 300_000, 2_000_000])
@pytest.mark.parametrize("where", ["value", "target", "fields"])
async def test_a_large_head(serve, size, where):
    """uvicorn's httptools protocol has no limit. Better: a limit, and 431, 414 or 400 beyond it."""
    app = Echo()
    client = await serve(app)
    filler = b"x" * size
    if where == "value":
        data = b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + filler + b"\r\n\r\n"
    elif where == "target":
        data = b"GET /" + filler + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    else:
        data = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 0123456789\r\n" * (size // 20) + b"\r\n"
    sending = serve.task(client.send(data))
    answer = await client.answer()
    await asyncio.wait([sending])
    status = answer.status
    if where == "target" and size > 65535:  # the longest URL that httptools parses
        serve.agreed(status, 400, 414, 431)
    elif size < 65000:
        assert status == 200
    elif size > 66_000:
        serve.agreed(status, 200, 431)
        assert serve.reference == (status == 200)
    assert len(serve.lines) <= 1
