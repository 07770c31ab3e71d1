"""What one client can hold of the dashboard: connections, memory and time have bounds."""

import asyncio
import contextlib
import socket

import pytest
import uvicorn
from uvicorn.server import ServerState

from fdpass._dashboard import protocol
from fdpass._dashboard.protocol import MOST_CONNECTIONS, MOST_OVERHEAD, MOST_PIPELINED, Protocol

LIMIT = 20
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
WAIT = GET.replace(b"/ ", b"/wait ")
POST = b"POST /body HTTP/1.1\r\nHost: a\r\n"


class World:
    """Connections to an application, which answers ``/`` at once, and ends other responses after `go`."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.state = ServerState()
        self.go = asyncio.Event()
        self.calls = 0
        self.body = b"ok"
        self.config = uvicorn.Config(
            self._app,
            interface="asgi3",
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=1,
        )
        self.config.load()
        self._held = []

    async def _app(self, scope, receive, send):
        self.calls += 1
        if scope["path"] == "/body":
            while (await receive()).get("more_body"):
                pass
        if scope["path"] != "/":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await self.go.wait()
            await send({"type": "http.response.body", "body": b"ended"})
            return
        length = str(len(self.body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": self.body})

    async def connect(self):
        """Reader and writer of a client, and the transport of its connection."""
        ours, theirs = socket.socketpair()
        transport, _ = await self.loop.connect_accepted_socket(
            lambda: self.config.http_protocol_class(config=self.config, server_state=self.state, app_state={}),
            theirs,
        )
        reader, writer = await asyncio.open_connection(sock=ours)
        self._held.append((transport, writer))
        return reader, writer, transport

    async def close(self):
        for transport, writer in self._held:
            transport.abort()
            writer.transport.abort()
        tasks = [*self.state.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


def run(test):
    """Run a coroutine function with a `World`."""

    async def main():
        world = World()
        try:
            async with asyncio.timeout(LIMIT):
                await test(world)
        finally:
            await world.close()

    asyncio.run(main())


async def rest(reader):
    """What comes until the connection ends; what came before a reset is lost."""
    with contextlib.suppress(ConnectionResetError):
        return await reader.read()
    return b""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(protocol, "SECONDS", 0.1)


def test_one_connection_too_many_closes_the_one_that_has_been_idle_the_longest():
    async def test(world):
        reader, writer, _ = await world.connect()
        writer.write(WAIT)
        await reader.readuntil(b"begun\r\n")
        silent = [await world.connect() for _ in range(MOST_CONNECTIONS - 1)]
        silent[0][1].write(GET)  # now the second one has been idle the longest
        await silent[0][0].readuntil(b"ok")
        last = await world.connect()
        assert await rest(silent[1][0]) == b""
        assert len(world.state.connections) == MOST_CONNECTIONS
        last[1].write(GET)
        assert b" 200 " in await last[0].readuntil(b"ok")
        world.go.set()
        assert b"ended" in await reader.readuntil(b"0\r\n\r\n")

    run(test)


def test_connections_with_requests_in_progress_are_not_closed_for_a_new_one():
    async def test(world):
        busy = [await world.connect() for _ in range(MOST_CONNECTIONS)]
        for reader, writer, _ in busy:
            writer.write(WAIT)
            await reader.readuntil(b"begun\r\n")
        assert await rest((await world.connect())[0]) == b""
        world.go.set()
        for reader, _, _ in busy:
            assert b"ended" in await reader.readuntil(b"0\r\n\r\n")

    run(test)


@pytest.mark.parametrize("piece", [b"a" * 4096, b"a: b\r\n" * 500], ids=["one value", "many headers"])
def test_a_head_that_is_too_long_is_refused(piece):
    async def test(world):
        reader, writer, _ = await world.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        writer.write(piece * (MOST_OVERHEAD // len(piece) + 1))
        assert (await rest(reader)).startswith(b"HTTP/1.1 431 ")
        assert world.calls == 0

    run(test)


def test_trailer_fields_without_end_close_the_connection():
    async def test(world):
        reader, writer, _ = await world.connect()
        writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
        writer.write(b"a: b\r\n" * (MOST_OVERHEAD // 5))
        assert await rest(reader) == b""

    run(test)


def test_a_long_body_is_left_to_the_application():
    async def test(world):
        reader, writer, _ = await world.connect()
        size = 4 * MOST_OVERHEAD
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        assert b" 200 " in await reader.readuntil(b"begun\r\n")

    run(test)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "sent",
    [b"", b"\r\n", b"GET", GET[:-2], POST + b"Content-Length: 9\r\n\r\na"],
    ids=["nothing", "empty line", "method", "head", "body"],
)
@pytest.mark.parametrize("before", [0, 1], ids=["first", "second"])
def test_a_connection_that_sends_no_whole_request_in_time_is_closed(before, sent):
    async def test(world):
        reader, writer, _ = await world.connect()
        for _ in range(before):
            writer.write(GET)
            await reader.readuntil(b"ok")
        writer.write(sent)
        assert await rest(reader) == b""

    run(test)


@pytest.mark.usefixtures("quick")
def test_a_client_that_sends_a_byte_now_and_then_gets_no_more_time():
    async def test(world):
        reader, writer, _ = await world.connect()
        ended = asyncio.ensure_future(rest(reader))
        for byte in GET[:-1]:
            writer.write(bytes([byte]))
            await asyncio.wait([ended], timeout=0.02)
        assert ended.done()

    run(test)


@pytest.mark.usefixtures("quick")
def test_a_response_may_take_longer_than_a_request():
    async def test(world):
        reader, writer, _ = await world.connect()
        writer.write(WAIT)
        await reader.readuntil(b"begun\r\n")
        await asyncio.sleep(0.4)
        world.go.set()
        assert b"ended" in await reader.readuntil(b"0\r\n\r\n")

    run(test)


@pytest.mark.usefixtures("quick")
def test_a_client_that_does_not_read_is_disconnected():
    async def test(world):
        world.body = bytes(4_000_000)
        _, writer, transport = await world.connect()
        writer.transport.pause_reading()
        writer.write(GET + GET)
        while not transport.is_closing():
            await asyncio.sleep(0.01)
        assert world.calls > 0

    run(test)


def test_a_client_that_reads_slowly_is_not_disconnected(monkeypatch):
    monkeypatch.setattr(protocol, "SECONDS", 0.3)

    async def test(world):
        world.body = bytes(3_000_000)
        reader, writer, _ = await world.connect()
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        count = 0
        while count < len(world.body):
            part = await reader.read(100_000)
            assert part
            count += len(part)
            await asyncio.sleep(0.02)

    run(test)


def test_a_client_that_sends_many_requests_without_waiting_is_disconnected():
    async def test(world):
        reader, writer, _ = await world.connect()
        writer.write(WAIT)
        await reader.readuntil(b"begun\r\n")
        writer.write(GET * (MOST_PIPELINED + 1))
        assert await rest(reader) == b""

    run(test)
