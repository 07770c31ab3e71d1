"""What engines/asgi.py relies on in uvicorn, most of it not documented: an upgrade that breaks it fails."""

import asyncio
import contextlib
import inspect
import logging
import signal
import socket

import pytest

uvicorn = pytest.importorskip("uvicorn")

from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: E402 - after the check that it is installed
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol  # noqa: E402

# The oldest uvicorn that we admit takes websockets' legacy implementation.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:websockets\..* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]
HTTP = [H11Protocol, HttpToolsProtocol]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Server(uvicorn.Server):
    """As the engine's."""

    def __init__(self, config):
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        if self.started:
            self.up.set()


class App:
    """An application that records its scopes and waits to be told to answer."""

    def __init__(self):
        self.scopes = []
        self.events = []
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                self.events.append(message["type"])
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            self.events.append(await receive())
            return
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def config_for(app, **options):
    return uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="auto",
        timeout_keep_alive=5.0,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        **options,
    )


@contextlib.asynccontextmanager
async def serving(app, **options):
    """A server that serves no socket, as in a worker; it has ended afterwards."""
    server = Server(config_for(app, **options))
    task = asyncio.create_task(server.serve(sockets=[]))
    await server.up.wait()
    try:
        yield server
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def connected(server, app=None):
    """A connection put on the loop with a protocol object; the protocol, and the client's streams."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    protocol = server.config.http_protocol_class(
        config=server.config, server_state=server.server_state, app_state=server.lifespan.state
    )
    if app is not None:
        protocol.app = app
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        yield protocol, reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


async def answer_of(reader):
    return await reader.readuntil(b"\r\n\r\nok")


def test_it_serves_without_a_socket_and_runs_the_lifespan():
    async def main():
        app = App()
        async with serving(app) as server:
            assert server.started
            assert app.events == ["lifespan.startup"]
            assert server.server_state.connections == set()
            assert server.server_state.tasks == set()
        assert app.events == ["lifespan.startup", "lifespan.shutdown"]

    asyncio.run(main())


def test_startup_is_called_with_the_sockets_and_signals_can_be_left_alone():
    assert "sockets" in inspect.signature(uvicorn.Server.serve).parameters
    assert "sockets" in inspect.signature(uvicorn.Server.startup).parameters
    before = signal.getsignal(signal.SIGTERM)

    async def main():
        async with serving(App()):
            assert signal.getsignal(signal.SIGTERM) is before

    asyncio.run(main())


def test_with_a_lifespan_that_fails_it_is_not_started_and_ends_and_logs_with_the_applications_traceback(caplog):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def breaks(scope, receive, send):
        raise LookupError("no table")

    async def main(app):
        server = uvicorn.Server(config_for(app))
        server.config.lifespan = "on"
        server.capture_signals = contextlib.nullcontext
        with contextlib.suppress(SystemExit):  # it exits, or returns
            await server.serve(sockets=[])
        assert not server.started

    caplog.set_level(logging.ERROR, "uvicorn.error")
    for each, words in ((app, "no database"), (breaks, "LookupError: no table")):
        asyncio.run(main(each))
        assert words in caplog.text


@pytest.mark.parametrize("http", HTTP)
def test_a_connection_is_served_by_a_protocol_object_of_ours(http):
    async def main():
        app = App()
        async with serving(app, http=http) as server:
            assert server.config.http_protocol_class is http
            async with connected(server) as (protocol, reader, writer):
                await until(lambda: protocol in server.server_state.connections)
                for _ in range(2):  # it is kept alive
                    writer.write(GET)
                    await answer_of(reader)
            await until(lambda: protocol not in server.server_state.connections)
            assert [scope["type"] for scope in app.scopes] == ["http", "http"]
            assert app.scopes[0]["state"] == server.lifespan.state

    asyncio.run(main())


@pytest.mark.parametrize("http", HTTP)
def test_the_application_is_the_one_of_the_config_that_the_protocol_was_made_with(http):
    async def main():
        shared, own = App(), App()
        async with serving(shared, http=http) as server, connected(server, own) as (_, reader, writer):
            writer.write(GET)
            await answer_of(reader)
            assert (len(shared.scopes), len(own.scopes)) == (0, 1)

    asyncio.run(main())


@pytest.mark.parametrize("http", HTTP)
def test_client_and_scheme_of_a_protocol_go_into_the_scope(http):
    """What a PROXY header said is set after connection_made."""

    class Told(http):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.client, self.scheme = ("192.0.2.1", 5), "https"

    async def main():
        app = App()
        async with serving(app, http=Told) as server, connected(server) as (_, reader, writer):
            writer.write(GET)
            await answer_of(reader)
        assert (app.scopes[0]["client"], app.scopes[0]["scheme"]) == (("192.0.2.1", 5), "https")

    asyncio.run(main())


@pytest.mark.parametrize("http", HTTP)
def test_shutdown_closes_what_is_idle(http):
    async def main():
        async with serving(App(), http=http) as server, connected(server) as (protocol, reader, writer):
            writer.write(GET)
            await answer_of(reader)
            protocol.shutdown()
            assert await reader.read() == b""

    asyncio.run(main())


@pytest.mark.parametrize("http", HTTP)
def test_shutdown_lets_a_request_finish_and_then_closes(http):
    async def main():
        app = App()
        app.go.clear()
        async with serving(app, http=http) as server, connected(server) as (protocol, reader, writer):
            writer.write(GET)
            await until(lambda: app.scopes)
            assert len(server.server_state.tasks) == 1
            protocol.shutdown()
            protocol.shutdown()
            app.go.set()
            await answer_of(reader)
            assert await reader.read() == b""

    asyncio.run(main())


def test_a_websocket_joins_the_connections_and_shutdown_closes_it_with_1012():
    pytest.importorskip("websockets")

    async def main():
        app = App()
        async with serving(app) as server, connected(server) as (http, reader, writer):
            writer.write(UPGRADE)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            (protocol,) = server.server_state.connections
            assert protocol is not http
            protocol.shutdown()
            assert await reader.readexactly(2) == b"\x88\x02"
            assert int.from_bytes(await reader.readexactly(2), "big") == 1012
            with contextlib.suppress(ConnectionError):  # it may be closed already
                writer.write(b"\x88\x82\0\0\0\0\x03\xf4")
                await reader.read()
            await until(lambda: app.events[1:])
            assert (app.events[1]["type"], app.events[1]["code"]) == ("websocket.disconnect", 1012)

    asyncio.run(main())


def test_the_time_for_a_graceful_shutdown_is_read_when_it_begins():
    """The engine knows it only then; a request that takes longer is cancelled."""

    async def main():
        app = App()
        app.go.clear()
        async with serving(app) as server, connected(server) as (_, reader, writer):
            writer.write(GET)
            await until(lambda: app.scopes)
            server.config.timeout_graceful_shutdown = 0.05
            server.should_exit = True
            await asyncio.wait_for(reader.read(), 30)
            assert not app.go.is_set()

    asyncio.run(main())


def test_the_protocol_class_is_known_once_the_config_is_loaded():
    config = config_for(App())
    config.load()
    assert config.http_protocol_class in HTTP
    assert config.loaded_app is not None
    parameters = inspect.signature(config.http_protocol_class).parameters
    assert {"config", "server_state", "app_state", "_loop"} <= set(parameters)


class Recorded:
    """A transport that records what is done with it."""

    def __init__(self):
        self.said = []

    def write(self, data):
        self.said.append(data)

    def close(self):
        self.said.append("close")

    def is_closing(self):
        return "close" in self.said

    def get_extra_info(self, name, default=None):
        return default

    def pause_reading(self):
        self.said.append("pause")

    def resume_reading(self):
        self.said.append("resume")


class Timed:
    """A loop whose timers are recorded."""

    def __init__(self):
        self.create_task = asyncio.get_running_loop().create_task
        self.timers = []

    def call_later(self, seconds, call):
        self.timers.append((seconds, call))
        return self

    def cancel(self):
        self.timers.append("cancelled")


@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
def test_the_end_of_a_response_is_told_in_the_instant_in_which_its_last_part_was_written(http, last):
    """By the protocol's own on_response_complete, once more than nothing was written, and after close()."""

    async def main():
        app, transport = App(), Recorded()
        async with serving(app, http=http) as server:
            protocol = http(
                config=server.config, server_state=server.server_state, app_state=server.lifespan.state
            )
            told, protocol.on_response_complete = protocol.on_response_complete, lambda: done()

            def done():
                transport.said.append("done")
                told()

            protocol.connection_made(transport)
            protocol.data_received(GET[:-2] + last + b"\r\n")
            await until(lambda: not server.server_state.tasks)
            said = [each for each in transport.said if each not in {b"", "resume"}]
            assert said[0].startswith(b"HTTP/1.1 200")
            assert said[1:] == [b"ok", *(["close"] if last else []), "done"]
            protocol.connection_lost(None)

    asyncio.run(main())


@pytest.mark.parametrize("http", HTTP)
def test_the_only_timers_are_those_of_keep_alive(http):
    async def main():
        app, transport = App(), Recorded()
        async with serving(app, http=http) as server:
            loop = Timed()
            protocol = http(
                config=server.config,
                server_state=server.server_state,
                app_state=server.lifespan.state,
                _loop=loop,
            )
            protocol.connection_made(transport)
            for _ in range(2):
                protocol.data_received(GET)
                await until(lambda: not server.server_state.tasks)
            (first, cancelled, second) = loop.timers
            assert (first[0], cancelled, second[0]) == (5.0, "cancelled", 5.0)
            second[1]()
            assert transport.is_closing()
            protocol.connection_lost(None)

    asyncio.run(main())
