"""A response whose request is not read to its end arrives whole: the server reads on for a while."""

import asyncio

import pytest

from ._apps import Echo, Steps, length, part, start
from ._client import turns

SIZE = 300_000
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n"
CLOSE = b"Connection: close\r\n"


def skip_reference(serve):
    if serve.reference:
        pytest.skip("uvicorn resets the connection")


async def early(scope, receive, send):
    """Answers without receiving the body."""
    await send(start(200, length(SIZE), (b"connection", b"close")))
    await send(part(b"x" * SIZE))


async def received(client):
    """What the client reads when it has sent what it could."""
    sending = asyncio.create_task(client.send(bytes(1_000_000)))
    await turns(300)
    out, end = await client.out()
    await asyncio.wait([sending])
    sending.exception()
    return out, end


@pytest.mark.parametrize("room", [0, 1 << 14])
@pytest.mark.parametrize("head", [POST % (2_000_000, b""), POST % (2_000_000, CLOSE), CHUNKED % 2_000_000])
async def test_a_large_response_to_a_request_whose_body_is_not_received(serve, head, room):
    skip_reference(serve)
    client = await serve(early, room=room)
    await client.send(head)
    out, end = await received(client)
    assert (len(out.partition(b"\r\n\r\n")[2]), end) == (SIZE, "closed")


async def test_a_response_that_is_followed_by_the_rest_of_a_body(serve):
    """The client sends on for a while after the end of the response."""
    skip_reference(serve)
    app = Steps()
    client = await serve(app)
    await client.send(POST % (2_000_000, CLOSE), bytes(1000))
    await (await app.next()).answer()
    for _ in range(20):
        await client.send(bytes(50_000))
        await turns(2)
    out, end = await client.out()
    assert (out[-2:], end) == (b"ok", "closed")


async def test_a_response_with_the_end_of_the_connection_before_other_requests(serve):
    skip_reference(serve)
    client = await serve(early)
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    out, end = await client.out()
    assert (len(out.partition(b"\r\n\r\n")[2]), end) == (SIZE, "closed")


@pytest.mark.parametrize("body", [POST % (1 << 30, b""), CHUNKED % (1 << 30)])
async def test_the_refusal_of_a_body_arrives(fresh, body):
    skip_reference(fresh)
    await fresh.start(max_body_size=1000)
    client = await fresh(Echo(), room=1 << 14)
    await client.send(body)
    out, end = await received(client)
    assert (out.split(b" ")[1], out[-4:], end) == (b"413", b"rge.", "closed")


async def test_a_server_that_ends_closes_what_lingers(fresh):
    skip_reference(fresh)
    await fresh.start()
    client = await fresh(early)
    await client.send(POST % (2_000_000, b""))
    assert len((await client.answer()).body) == SIZE
    await fresh.server.retire(1.0)
    await turns()
    assert not fresh.server.open


@pytest.mark.parametrize("sends", [False, True])
async def test_a_connection_lingers_for_two_seconds(fresh, sends):
    """Whether or not the client sends; and the application that has answered does not wait for it."""
    skip_reference(fresh)
    await fresh.start()
    client = await fresh(early)
    before = asyncio.get_running_loop().time()
    await client.send(POST % (1 << 30, b""))
    assert len((await client.answer()).body) == SIZE
    await fresh.over()
    if fresh.kind != "tls":
        assert await client.rest() == b""

    async def trickle():
        while True:
            await client.send(bytes(100))
            await asyncio.sleep(0.1)

    sending = fresh.task(trickle() if sends else asyncio.sleep(100))
    await fresh.server.settled.wait()
    most = 45 if fresh.kind == "tls" else 15  # asyncio then waits for close_notify
    assert 2 <= asyncio.get_running_loop().time() - before < most
    sending.cancel()
    await asyncio.wait([sending])


async def test_a_client_that_sends_without_end_is_cut_off(fresh):
    skip_reference(fresh)
    await fresh.start()
    client = await fresh(early)
    await client.send(POST % (1 << 40, b""))
    assert len((await client.answer()).body) == SIZE
    count = 0
    with pytest.raises(ConnectionError):
        while count < 1 << 28:
            await client.send(bytes(1 << 20))
            count += 1 << 20
