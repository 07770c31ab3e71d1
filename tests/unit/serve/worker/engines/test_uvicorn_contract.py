"""What engines/asgi.py relies on in uvicorn, most of it not documented: an upgrade that breaks it fails."""

import asyncio
import contextlib
import signal
import socket

import pytest

uvicorn = pytest.importorskip("uvicorn")

from fdpass.serve.worker.engines.asgi import _ServerState as ServerState  # noqa: E402 - after the check
from fdpass.serve.worker.engines.uvicorn_websockets import call_exit_hooks  # noqa: E402 - that it is installed

# The oldest uvicorn that we admit takes websockets' legacy implementation.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:websockets\..* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class App:
    """An application that records its scopes and what it receives."""

    def __init__(self):
        self.scopes = []
        self.events = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept"})
        self.events.append(await receive())


def loaded(app, **options):
    config = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        **options,
    )
    config.load()
    return config


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def test_the_application_is_called_as_it_was_given():
    """Nothing is wrapped around it, which could change scopes, or what a failure's traceback begins with."""
    app = App()
    assert loaded(app).loaded_app is app


class Handover(asyncio.Protocol):
    """As `HttpProtocol`: it makes the protocol of a WebSocket, and lets it have the connection."""

    def __init__(self, make):
        self._make = make

    def connection_made(self, transport):
        self.websocket = self._make()
        self.websocket.connection_made(transport)
        transport.set_protocol(self.websocket)
        self.websocket.data_received(UPGRADE)


@contextlib.asynccontextmanager
async def websocket(app, state):
    """The protocol of a WebSocket, its server's state, and the client's streams."""
    config, servers = loaded(app), ServerState()
    servers.default_headers = [(b"date", b"today")]

    def make():
        return config.ws_protocol_class(config=config, server_state=servers, app_state=state)

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    _, first = await asyncio.get_running_loop().connect_accepted_socket(lambda: Handover(make), ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        yield first.websocket, servers, reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await until(lambda: not (servers.connections or servers.tasks))


def test_a_websocket_is_made_of_a_connection_and_its_handshake():
    """It is among the server's connections while it lives, and among the tasks while its application runs."""
    pytest.importorskip("websockets")

    async def main():
        app, state = App(), {"database": "open"}
        async with websocket(app, state) as (protocol, servers, reader, _):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101")
            assert b"date: today\r\n" in head.lower()
            assert servers.connections == {protocol}
            assert len(servers.tasks) == 1
            (scope,) = app.scopes
            assert (scope["type"], scope["path"], scope["state"]) == ("websocket", "/ws", state)
            assert scope["state"] is not state

    asyncio.run(main())


def test_shutdown_ends_a_websocket_with_1012():
    pytest.importorskip("websockets")

    async def main():
        app = App()
        async with websocket(app, {}) as (protocol, _, reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            protocol.shutdown()
            assert await reader.readexactly(2) == b"\x88\x02"
            assert int.from_bytes(await reader.readexactly(2), "big") == 1012
            with contextlib.suppress(ConnectionError):  # it may be closed already
                writer.write(b"\x88\x82\0\0\0\0\x03\xf4")
                await reader.read()
            await until(lambda: app.events)
            assert (app.events[0]["type"], app.events[0]["code"]) == ("websocket.disconnect", 1012)

    asyncio.run(main())


def test_without_a_package_for_websockets_there_is_no_class_for_them():
    assert loaded(App(), ws="none").ws_protocol_class is None


def test_handle_exit_of_a_server_that_does_not_run_can_be_called(monkeypatch):
    """Libraries replace the method of the class, and their function gets the server and the signal."""
    server = uvicorn.Server(loaded(App()))
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit
    calls = []
    monkeypatch.setattr("uvicorn.Server.handle_exit", lambda *arguments: calls.append(arguments))
    call_exit_hooks(lambda: loaded(App()))
    ((server, *rest),) = calls
    assert isinstance(server, uvicorn.Server)
    assert rest == [signal.SIGTERM, None]


def test_a_hook_that_fails_is_logged(monkeypatch, caplog):
    def fails(*_):
        raise LookupError("on purpose")

    monkeypatch.setattr("uvicorn.Server.handle_exit", fails)
    call_exit_hooks(lambda: loaded(App()))
    assert "a library's hook in uvicorn.Server.handle_exit failed" in caplog.text
