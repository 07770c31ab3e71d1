"""--max-header-size and --max-body-size: what is larger is refused, and the connection ends."""

import re

import pytest

from ._apps import Echo, Steps, start
from ._client import turns

GONE = {"type": "http.disconnect"}
MOST = 8 * 1024
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n"


def skip_reference(fresh):
    if fresh.reference:
        pytest.skip("uvicorn has no limits")


def status_of(out):
    """The status of the only response."""
    (status,) = re.findall(rb"HTTP/1.1 ([0-9]+) ", out)
    assert b"connection: close" in out
    return int(status)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize(("size", "status"), [(MOST, 200), (MOST + 1, 431)])
async def test_the_size_of_a_head(fresh, pieces, size, status):
    skip_reference(fresh)
    await fresh.start(max_header_size=MOST)
    app = Echo()
    client = await fresh(app)
    data = REQUEST % bytes(size - len(REQUEST) + 2).replace(b"\0", b"x")
    assert len(data) == size
    for number in range(pieces):
        await client.send(data[number * size // pieces : (number + 1) * size // pieces])
        await turns()
    assert (await client.answer()).status == status
    assert len(app.scopes) == (status == 200)
    if status != 200:
        assert await client.rest() == b""
        assert re.search(r"client 127.0.0.1:\d+ gets a 431: the head has more than 8192 bytes", fresh.lines[0])


async def test_a_head_without_an_end_is_refused_as_soon_as_it_is_too_long(fresh):
    skip_reference(fresh)
    await fresh.start(max_header_size=MOST)
    client = await fresh(Echo())
    await client.send(b"GET / HTTP/1.1\r\nX: " + b"x" * MOST)
    assert status_of((await client.out())[0]) == 431


async def test_a_head_that_is_too_long_behind_a_request_is_refused_after_its_response(fresh):
    skip_reference(fresh)
    await fresh.start(max_header_size=MOST)
    app = Steps()
    client = await fresh(app)
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + REQUEST % (b"x" * MOST))
    await (await app.next()).answer()
    assert (await client.answer()).body == b"ok"
    assert status_of((await client.out())[0]) == 431
    assert app.waiting == 0


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413)])
async def test_the_content_length_of_a_body(fresh, size, status):
    """A body that is too large is refused at its head, and `100 Continue` is not sent."""
    skip_reference(fresh)
    await fresh.start(max_body_size=1000)
    app = Echo()
    client = await fresh(app)
    await client.send(POST + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % size)
    if status == 200:
        assert (await client.answer()).status == 100
        await client.send(bytes(size))
        assert (await client.answer()).status == 200
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % (size + 1), bytes(size))
    assert status_of((await client.out())[0]) == 413
    assert len(app.scopes) == (status == 200)
    assert "gets a 413: the body has more than 1000 bytes" in fresh.lines[0]


@pytest.mark.parametrize("begun", [False, True])
async def test_chunks_that_are_too_large_together(fresh, begun):
    """The application receives http.disconnect. The client gets a 413, or a response that it sees is cut."""
    skip_reference(fresh)
    await fresh.start(max_body_size=1000)
    app = Steps()
    client = await fresh(app)
    await client.send(CHUNKED + b"258\r\n" + bytes(600) + b"\r\n")
    call = await app.next()
    assert await call.receive() == {"type": "http.request", "body": bytes(600), "more_body": True}
    if begun:
        await call.send(start(200))
        await client.until(b"\r\n\r\n")
    waiting = fresh.task(call.receive())
    await turns()
    await client.send(b"191\r\n" + bytes(401) + b"\r\n")
    out, _ = await client.out()
    assert out == b"" if begun else status_of(out) == 413
    assert await waiting == GONE
    call.end()


async def test_chunks_up_to_the_limit_are_a_body_and_each_request_has_its_own(fresh):
    skip_reference(fresh)
    await fresh.start(max_body_size=1000)
    app = Echo()
    client = await fresh(app)
    for _ in range(3):
        await client.send(CHUNKED + b"1f4\r\n" + bytes(500) + b"\r\n", b"1f4\r\n" + bytes(500) + b"\r\n0\r\n\r\n")
        assert (await client.answer()).body == bytes(1000)


async def test_a_body_that_grows_too_large_after_its_response_ends_the_connection(fresh):
    skip_reference(fresh)
    await fresh.start(max_body_size=1000)
    app = Steps()
    client = await fresh(app)
    await client.send(CHUNKED)
    await (await app.next()).answer()
    assert (await client.answer()).body == b"ok"
    await client.send(b"3e9\r\n" + bytes(1001))
    assert (await client.out())[0] == b""


async def test_the_response_of_the_application_does_not_follow_a_refusal(fresh):
    skip_reference(fresh)
    await fresh.start(max_body_size=1000)
    app = Steps()
    client = await fresh(app)
    await client.send(CHUNKED + b"1\r\na\r\n")
    call = await app.next()
    await client.send(b"7d0\r\n" + bytes(2000))
    while not fresh.lines:
        await turns(1)
    await call.answer()
    out, end = await client.out()
    assert (status_of(out), end) == (413, "closed")
