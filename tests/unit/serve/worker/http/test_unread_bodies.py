"""Bodies that the application does not receive, or receives late: back pressure, and the next request."""

import asyncio

import pytest

from ._apps import Steps
from .test_request_bodies import CHUNKED, POST, complete, request


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_not_received_is_not_the_next_request(serve, chunked):
    """All of the body has arrived before the response."""
    app = Steps()
    client = await serve(app)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled) if chunked else smuggled
    await client.send((CHUNKED if chunked else POST % len(smuggled)) + body)
    await complete(app)
    assert (await client.answer()).body == b"ok"
    await client.request(b"/next")
    call = await app.next()
    assert call.scope["path"] == "/next"
    await call.answer()
    assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("size", [100, 1 << 20])
async def test_the_rest_of_a_body_that_arrives_after_the_response_is_dropped(serve, size):
    """The client has its response and sends the rest of its request; the server then serves the next request."""
    app = Steps()
    client = await serve(app)
    await client.send(POST % size, b"x" * 50)
    await complete(app)
    assert (await client.answer()).body == b"ok"
    await client.send(b"x" * (size - 50))
    await client.request(b"/next")
    call = await app.next()
    assert call.scope["path"] == "/next"
    assert await call.receive() == request()
    await call.answer()
    assert (await client.answer()).body == b"ok"


async def test_the_rest_of_a_body_and_the_next_request_in_one_piece(serve):
    app = Steps()
    client = await serve(app)
    await client.send(POST % 10, b"01234")
    await complete(app)
    await client.answer()
    await client.send(b"56789GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    call = await app.next()
    assert call.scope["path"] == "/next"
    await call.answer()
    assert (await client.answer()).body == b"ok"


async def test_the_server_stops_reading_when_the_application_does_not_receive(serve):
    """The server buffers a bounded number of bytes. When the application receives, all of the body arrives."""
    size = 16 << 20
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.send(POST % size)
    call = await app.next()
    sent = await client.fill(size)
    assert sent < 2 << 20
    sending = asyncio.create_task(client.send(bytes(size - sent)))
    read, messages = 0, 0
    while True:
        message = await call.receive()
        read += len(message["body"])
        messages += 1
        if not message["more_body"]:
            break
    await sending
    assert read == size
    assert messages > 4
    await call.answer()
    assert (await client.answer()).body == b"ok"


async def test_the_server_reads_on_after_an_early_response(serve):
    """It had stopped reading. It drops the rest of the body, and serves the next request."""
    size = 1 << 20
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.send(POST % size)
    call = await app.next()
    sent = await client.fill(size)
    assert sent < size
    await call.answer()
    assert (await client.answer()).body == b"ok"
    await client.send(bytes(size - sent))
    await client.request(b"/next")
    assert (await asyncio.gather(client.answer(), complete(app)))[0].body == b"ok"
