"""A client of a WebSocket that sends and does not read costs a bounded amount of memory."""

import asyncio

import pytest

from ._client import turns
from .test_live_websockets import CLASSES, each_class
from .test_upgrades import HANDSHAKE, Socket, frame, opened, reply

pytest.importorskip("websockets")
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:websockets\..* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated"),
]
__all__ = ["each_class"]  # a fixture
PINGS = 15_000  # with their pongs 2 MB each way
PING, PONG = frame(b"p" * 120, 9), reply(b"p" * 120, 10)
BUFFERED_MAX = 1 << 20  # bytes; asyncio's TLS tells a protocol to pause at 512 KiB


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("resume", [("/ws",), ()])
@pytest.mark.usefixtures("each_class")
async def test_pongs_for_a_client_that_does_not_read_are_bounded(fresh, name, resume):
    """uvicorn keeps them all, but for its class on the old websockets. All come once the client reads."""
    if (resume and fresh.kind != "custody") or (fresh.reference and name != "websockets"):
        pytest.skip("not resumable, or not bounded")
    await fresh.start(**({"resume": resume} if resume else {}))
    config = fresh.server._config if fresh.reference else fresh.server.engine._config
    config.ws_ping_interval = None  # its pings would be among the pongs
    client = await fresh(Socket(), room=1 << 16)
    await client.send(HANDSHAKE)
    await opened(client)
    flood = fresh.task(client.send(PING * PINGS))
    (websocket,) = _websockets(fresh)
    size, before = 1, 0
    while size != before:
        before = size
        await turns(100)
        size = websocket.transport.get_write_buffer_size()
        assert size < BUFFERED_MAX
    assert not flood.done()
    assert await client.exactly(len(PONG) * PINGS) == PONG * PINGS
    await flood
    await client.send(frame(b"one"))
    assert await client.exactly(5) == reply(b"one")


def _websockets(fresh):
    server = fresh.server
    return server._server.server_state.connections if fresh.reference else server.engine._websockets.connections


async def test_a_message_is_read_though_the_client_is_slow_to_read(fresh):
    """Only what is answered without the application waits: an application may read while it cannot send."""
    got = asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        sending = asyncio.create_task(send_on(send))
        while not (message := await receive()).get("text") == "last":
            pass
        got.set()
        sending.cancel()
        while message["type"] != "websocket.disconnect":
            message = await receive()

    async def send_on(send):
        while True:
            await send({"type": "websocket.send", "text": "x" * 10_000})

    await fresh.start()
    client = await fresh(app, room=1 << 16)
    await client.send(HANDSHAKE)
    await opened(client)
    (websocket,) = _websockets(fresh)
    while not websocket.transport.get_write_buffer_size():
        await asyncio.sleep(0)
    await turns(100)
    for _ in range(100):
        await client.send(frame(b"one"))
        await turns(2)
    await client.send(frame(b"last"))
    await got.wait()
