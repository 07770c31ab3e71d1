"""`receive`: it returns the parts of a request's body, and then http.disconnect."""

import asyncio

import pytest

from ._apps import Echo, Steps, length, part, start, whole
from ._client import noticed, turns

POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
GONE = {"type": "http.disconnect"}


def request(body=b"", *, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_request_without_a_body_has_one_empty_part(serve):
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    assert await call.receive() == request()
    await call.answer()
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"DELETE", b"TRACE"])
async def test_a_request_with_any_method_may_have_a_body(serve, method):
    app = Echo()
    client = await serve(app)
    await client.get(method=method, body=b"hello")
    assert app.bodies == [b"hello"]


async def test_a_body_that_arrived_with_the_head_is_one_part(serve):
    app = Steps()
    client = await serve(app)
    await client.request(method=b"POST", body=b"hello")
    call = await app.next()
    message = await call.receive()
    assert message == request(b"hello")
    assert type(message["body"]) is bytes
    await call.answer()


@pytest.mark.parametrize("chunked", [False, True])
async def test_each_part_is_received_when_it_arrives(serve, chunked):
    """more_body is False with the last byte, or with the last chunk."""
    app = Steps()
    client = await serve(app)
    await client.send(CHUNKED if chunked else POST % 6)
    call = await app.next()
    for each in (b"ab", b"cd"):
        waiting = asyncio.create_task(call.receive())
        await turns(3)
        assert not waiting.done()
        await client.send(b"2\r\n%b\r\n" % each if chunked else each)
        assert await waiting == request(each, more=True)
    await client.send(b"2\r\nef\r\n0\r\n\r\n" if chunked else b"ef")
    assert await call.receive() == request(b"ef")
    await call.answer()
    assert (await client.answer()).body == b"ok"


async def test_parts_that_arrived_before_receive_are_joined(serve):
    app = Steps()
    client = await serve(app)
    await client.send(POST % 6)
    call = await app.next()
    for each in (b"ab", b"cd", b"ef"):
        await client.send(each)
        await turns(5)
    assert await call.receive() == request(b"abcdef")
    await call.answer()


BODIES = {
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "two chunks": (b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
    "no chunk": (b"0\r\n\r\n", b""),
    "an extension": (b"5;name=value\r\nhello\r\n0;last\r\n\r\n", b"hello"),
    "zeros before a size, and capitals": (b"00A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
    "trailers": (b"5\r\nhello\r\n0\r\nX-Sum: 5\r\nX-More: 6\r\n\r\n", b"hello"),
    "CR LF in a chunk": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("pieces", [False, True])
async def test_a_chunked_body_is_received_without_its_framing(serve, name, pieces):
    sent, body = BODIES[name]
    app = Echo()
    client = await serve(app)
    data = CHUNKED + sent
    await client.send(*([bytes([byte]) for byte in data] if pieces else [data]))
    assert (await client.answer()).body == (body or b"ok")
    assert app.bodies == [body]
    assert (await client.get()).body == b"ok"


async def test_trailers_of_a_request_are_not_header_fields(serve):
    """uvicorn adds them to the header fields, where a proxy before it has not seen them. Better: it drops them."""
    app = Echo()
    client = await serve(app)
    await client.send(CHUNKED + b"1\r\nx\r\n0\r\nX-Late: 1\r\nHost: other\r\n\r\n")
    await client.answer()
    serve.agreed(
        app.scope["headers"],
        [
            (b"host", b"x"),
            (b"transfer-encoding", b"chunked"),
            (b"x-late", b"1"),
            (b"host", b"other"),
        ],
        [(b"host", b"x"), (b"transfer-encoding", b"chunked")],
    )


async def test_the_header_fields_do_not_change_after_the_call(serve):
    """uvicorn appends trailers to the list that the application has already."""
    app = Steps()
    client = await serve(app)
    await client.send(CHUNKED)
    call = await app.next()
    before = list(call.scope["headers"])
    await client.send(b"0\r\nX-Late: 1\r\n\r\n")
    assert await call.receive() == request()
    serve.agreed(call.scope["headers"], [*before, (b"x-late", b"1")], before)
    await call.answer()
    await client.answer()


async def test_a_large_body_arrives_whole(serve):
    app = Echo()
    client = await serve(app)
    body = bytes(range(256)) * 4096 * 3
    sending = asyncio.create_task(client.request(method=b"POST", body=body))
    assert (await client.answer()).body == body
    await sending


async def test_receive_after_the_body_waits_until_the_client_goes(serve):
    app = Steps()
    client = await serve(app)
    await client.request(method=b"POST", body=b"x")
    call = await app.next()
    await call.receive()
    waiting = asyncio.create_task(call.receive())
    await turns()
    assert not waiting.done()
    client.close()
    assert await waiting == GONE
    assert await call.receive() == GONE
    call.end()
    assert serve.lines == []


async def test_receive_after_the_body_returns_disconnect_when_the_response_is_complete(serve):
    """So an application need not cancel a task that waits for the client to go."""
    app = Steps()
    client = await serve(app)
    await client.request(method=b"POST", body=b"x")
    call = await app.next()
    await call.receive()
    waiting = asyncio.create_task(call.receive())
    await turns(5)
    await call.send(start(200, length(2)))
    await turns(5)
    assert not waiting.done()
    await call.send(part(b"ok"))
    assert await waiting == GONE
    assert await call.receive() == GONE
    call.end()
    assert (await client.answer()).body == b"ok"
    assert (await asyncio.gather(client.get(), complete(app)))[0].body == b"ok"


async def complete(app):
    await (await app.next()).answer()


async def test_two_receives_at_once_return_each_byte_once(serve):
    """uvicorn wakes both, and the second returns an empty part that the client never sent. Better: it waits on."""
    app = Steps()
    client = await serve(app)
    await client.send(POST % 2)
    call = await app.next()
    both = [asyncio.create_task(call.receive()) for _ in range(2)]
    await turns(5)
    await client.send(b"ab")
    first = await both[0]
    await turns(5)
    second = both[1].result() if both[1].done() else None
    serve.agreed((first, second), (request(b"ab"), request()), (request(b"ab"), None))
    await call.answer()
    assert await both[1] in (second, GONE)
    await client.answer()


async def test_a_cancelled_receive_loses_nothing(serve):
    app = Steps()
    client = await serve(app)
    await client.send(POST % 2)
    call = await app.next()
    for _ in range(2):
        waiting = asyncio.create_task(call.receive())
        await turns(3)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
    await client.send(b"ab")
    assert await call.receive() == request(b"ab")
    await call.answer()
    await client.answer()


async def test_a_client_that_goes_in_the_middle_of_a_body(serve):
    app = Steps()
    client = await serve(app)
    await client.send(POST % 10, b"01234")
    call = await app.next()
    assert await call.receive() == request(b"01234", more=True)
    waiting = asyncio.create_task(call.receive())
    await turns(3)
    client.close()
    assert await waiting == GONE
    call.end()
    await serve.over()
    assert serve.lines == []


async def test_a_body_that_arrived_before_the_client_went(serve):
    """uvicorn drops a body that was not received when the connection ends. Better: `receive` returns it first."""
    app = Steps()
    client = await serve(app)
    await client.request(method=b"POST", body=b"whole")
    call = await app.next()
    client.close()
    await noticed(serve)
    serve.agreed(await call.receive(), GONE, request(b"whole"))
    assert await call.receive() == GONE
    call.end()


async def test_an_application_may_receive_after_the_start_of_its_response(serve):
    async def app(scope, receive, send):
        await send(start())
        body = await whole(receive)
        await send(part(body))

    client = await serve(app)
    await client.send(POST % 4)
    head = await client.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    await client.send(b"full")
    assert await client.until(b"0\r\n\r\n") == b"4\r\nfull\r\n"
