"""Clients, files and applications that do what a server does not expect."""

import asyncio
import contextlib
import os

import pytest

from ._apps import Echo, Steps, length, part, sends, start
from ._client import turns
from .test_upgrades import HANDSHAKE

EACH_KIND = True
PATHSEND = "http.response.pathsend"
GONE = {"type": "http.disconnect"}
SIZE = 3_000_000
OLD = b"GET / HTTP/1.0\r\n\r\n"


def skip_reference(serve):
    if serve.reference:
        pytest.skip("uvicorn's own")


async def test_a_file_that_shrinks_behind_a_head_without_a_length(serve, tmp_path):
    skip_reference(serve)
    path = tmp_path / "file"
    path.write_bytes(bytes(8_000_000))
    app = Steps()
    client = await serve(app, room=1 << 16)
    await client.send(OLD)
    call = await app.next()
    await call.send(start())
    await client.until(b"\r\n\r\n")
    sending = serve.task(call.send({"type": PATHSEND, "path": str(path)}))
    sending.add_done_callback(lambda _: call.fail(sending.exception()) if sending.exception() else call.end())
    await turns()
    os.truncate(path, 1_000_000)
    _, end = await client.out()
    assert end == "reset"
    assert serve.lines


async def test_half_close_while_the_end_of_the_connection_ends_the_body(serve):
    skip_reference(serve)
    app = Steps()
    client = await serve(app)
    await client.send(OLD)
    call = await app.next()
    await call.send(start())
    await call.send(part(b"part", more=True))
    await client.until(b"part")
    await client.end()
    await turns()
    call.end()
    _, end = await client.out()
    assert end == "reset"


async def test_half_close_with_a_backlog(serve):
    skip_reference(serve)
    app = Steps()
    client = await serve(app, room=1 << 16)
    await client.send(OLD)
    call = await app.next()
    await call.send(start())
    await call.send(part(bytes(3_000_000), more=True))
    await client.end()
    await turns()
    call.end()
    await turns()
    _, end = await client.out()
    assert end == "reset"


@pytest.mark.parametrize("whole", [False, True])
async def test_the_graceful_time_ends_with_a_body_without_a_length(fresh, whole):
    skip_reference(fresh)

    async def app(scope, receive, send):
        await send(start())
        await send(part(b"part", more=True))
        await asyncio.sleep(0.1)
        if whole:
            await send(part(bytes(3_000_000)))
            return
        for _ in range(2):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass

    await fresh.start()
    client = await fresh(app, room=1 << 16)
    await client.send(OLD)
    await client.until(b"part")
    await asyncio.sleep(0.5)
    retiring = fresh.task(fresh.server.retire(1.0))
    await asyncio.sleep(4)
    out, end = await client.out()
    assert end == "reset", len(out)
    for task in fresh.server.switch.calls:
        task.cancel()
    await retiring


@pytest.mark.parametrize("kind", ["fifo", "device"])
async def test_pathsend_of_what_is_no_file(serve, tmp_path, kind):
    """`send` raises. To open a FIFO would block the worker, and /dev/zero has no end."""
    skip_reference(serve)
    path = "/dev/zero"
    if kind == "fifo":
        path = str(tmp_path / "fifo")
        os.mkfifo(path)
    client = await serve(sends(start(), {"type": PATHSEND, "path": path}))
    await client.request()
    out, end = await client.outcome(serve.over)
    assert end == "ended"
    assert b"0\r\n\r\n" not in out
    assert len(serve.lines) == 1


async def test_a_websocket_behind_a_response_that_is_not_read(serve):
    """The client's slowness is known to the WebSocket, too: its application waits."""
    skip_reference(serve)
    sent = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send(start(200, length(SIZE)))
            await send(part(bytes(SIZE)))
            return
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(50):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent.append(True)

    client = await serve(app, room=1 << 16)
    await client.request()
    await turns()
    await client.send(HANDSHAKE)
    await turns(500)
    assert len(sent) < 10
    assert len((await client.answer()).body) == SIZE
    await client.rest()
    assert len(sent) == 50


async def test_receive_behind_a_large_body_learns_that_the_client_has_gone(serve):
    """The last part of the body made the server pause reading."""
    app = Steps()
    client = await serve(app)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n", bytes(60_000))
    call = await app.next()
    await turns()
    await client.send(bytes(10_000))
    await turns()
    assert await call.receive() == {"type": "http.request", "body": bytes(70_000), "more_body": False}
    waiting = serve.task(call.receive())
    await turns()
    client.close()
    async with asyncio.timeout(3):
        assert await waiting == GONE
    call.end()


async def test_an_endless_stream_whose_client_has_gone_blocks_nobody(serve):
    """The application never waits for anything but `send`."""
    skip_reference(serve)
    over = []

    async def app(scope, receive, send):
        await send(start())
        for _ in range(100_000):
            await send(part(b"x" * 1000, more=True))
        over.append(True)

    client = await serve(app)
    await client.request()
    await client.until(b"x")
    client.close()
    await serve.server.settled.wait()
    assert len(over) == 0


async def test_a_background_failure_does_not_cut_the_next_response(serve):
    skip_reference(serve)
    app = Steps()
    client = await serve(app)
    await client.request()
    first = await app.next()
    await first.send(start(200, length(2)))
    await first.send(part(b"ok"))
    assert (await client.answer()).body == b"ok"
    await client.request(method=b"POST", body=b"x")
    second = await app.next()
    first.fail(LookupError())
    await turns()
    await second.answer()
    assert (await client.answer()).body == b"ok"
    assert serve.lines


@pytest.mark.parametrize("trailers", [False, True])
async def test_an_endless_head(serve, trailers):
    """The server refuses it in time, and reads no more than a bounded part of it."""
    skip_reference(serve)
    client = await serve(Echo())
    chunks = b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n" if trailers else b""
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + chunks)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 40_000_000:
            await client.send(b"x: " + b"y" * 29_995 + b"\r\n")
            sent += 30_000
    assert sent < 40_000_000
    assert len(serve.lines) == 1
