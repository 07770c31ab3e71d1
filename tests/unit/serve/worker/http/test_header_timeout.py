"""--header-timeout: a client has so long for the head of a request, and a silent one does not stay."""

import asyncio
import contextlib

import pytest

from ._apps import Echo, Steps, length, part, start
from ._client import turns
from .test_upgrades import HANDSHAKE

SECONDS = 4.0  # of the clock that jumps
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def begin(fresh, **settings):
    if fresh.reference:
        pytest.skip("uvicorn has no such timeout")
    await fresh.start(keep_alive=60.0, **{"header_timeout": SECONDS, **settings})


@contextlib.asynccontextmanager
async def takes(seconds):
    """What happens in here takes so long on the clock that jumps, and not much longer."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    yield
    assert seconds - 0.1 <= loop.time() - before < seconds * 2 + 10


@pytest.mark.parametrize("data", [b"", b"\r\n", b"G", HEAD[:-2]])
async def test_a_client_that_sends_no_whole_head_is_closed_without_an_answer(fresh, data):
    await begin(fresh)
    app = Echo()
    async with takes(SECONDS):
        client = await fresh(app)
        if data:
            await client.send(data)
        assert await client.ended()
    assert (app.scopes, fresh.lines) == ([], [])


async def test_a_client_that_sends_its_head_slowly_is_closed(fresh):
    await begin(fresh)
    client = await fresh(Echo())

    async def trickle():
        with contextlib.suppress(ConnectionError):
            for byte in HEAD * 10:
                await client.send(bytes([byte]))
                await asyncio.sleep(SECONDS / 20)

    async with takes(SECONDS):
        sending = fresh.task(trickle())
        with contextlib.suppress(ConnectionResetError):
            assert await client.rest() == b""
    sending.cancel()


@pytest.mark.parametrize("requests", [1, 3])
async def test_the_time_begins_anew_with_the_first_byte_of_each_head(fresh, requests):
    """The idle time before it is that of keep-alive."""
    await begin(fresh)
    client = await fresh(Echo())
    for _ in range(requests):
        await asyncio.sleep(SECONDS * 0.7)
        await client.send(HEAD[:9])
        await asyncio.sleep(SECONDS * 0.2)
        await client.send(HEAD[9:])
        assert (await client.answer()).body == b"ok"
        await asyncio.sleep(SECONDS * 1.5)
        assert (await client.get()).body == b"ok"
        await asyncio.sleep(SECONDS * 1.5)
    async with takes(SECONDS):
        await client.send(HEAD[:9])
        assert await client.ended()


async def test_neither_a_slow_body_nor_a_slow_application_is_closed(fresh):
    await begin(fresh)
    app = Steps()
    client = await fresh(app)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
    call = await app.next()
    await asyncio.sleep(SECONDS * 1.5)
    await client.send(b"ab")
    await asyncio.sleep(SECONDS * 1.5)
    assert (await call.receive())["body"] == b"ab"
    await call.send(start(200, length(2)))
    await asyncio.sleep(SECONDS * 1.5)
    await call.send(part(b"ok"))
    call.end()
    assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("cut", [0, 30, len(HANDSHAKE)])
async def test_a_websocket_is_not_closed(fresh, cut):
    pytest.importorskip("websockets")

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(SECONDS * 2)
        await send({"type": "websocket.close"})

    await begin(fresh)
    client = await fresh(app)
    await client.send(HANDSHAKE[:cut])
    await turns()
    await client.send(HANDSHAKE[cut:])
    await client.until(b"\r\n\r\n")
    async with takes(SECONDS * 2):
        await client.exactly(4)
    client.close()


async def test_0_is_no_limit(fresh):
    await begin(fresh, header_timeout=0.0)
    client = await fresh(Echo())
    await asyncio.sleep(SECONDS * 5)
    await client.send(HEAD[:9])
    await asyncio.sleep(SECONDS * 5)
    await client.send(HEAD[9:])
    assert (await client.answer()).body == b"ok"


async def test_a_client_that_does_no_tls_handshake_is_closed(fresh):
    await begin(fresh)
    if fresh.kind != "tls":
        pytest.skip("of TLS only")
    async with takes(SECONDS):
        client = await fresh.connect_without_tls()
        with contextlib.suppress(ConnectionResetError):
            assert await client.rest() == b""
