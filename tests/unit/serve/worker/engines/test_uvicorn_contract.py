"""What engines/asgi.py relies on in uvicorn, most of it not documented: an upgrade that breaks it fails."""

import asyncio
import contextlib
import logging
import signal
import socket
from types import SimpleNamespace

import pytest

uvicorn = pytest.importorskip("uvicorn")

from uvicorn.server import ServerState  # noqa: E402 - after the check that it is installed

from fdpass.serve.worker.engines.lifespan import call_exit_hooks, stop_lifespan  # noqa: E402 - likewise

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
        if scope["type"] == "lifespan":
            scope["state"]["database"] = "open"
            while True:
                message = await receive()
                self.events.append(message["type"])
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        await receive()
        await send({"type": "websocket.accept"})
        self.events.append(await receive())


async def reports_a_failure(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def raises(scope, receive, send):
    raise LookupError("no table")


def loaded(app, lifespan="auto", **options):
    config = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        **options,
    )
    config.load()
    return config


def lifespan_of(app, setting):
    config = loaded(app, setting)
    return config.lifespan_class(config)


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def test_the_application_is_called_as_it_was_given():
    """Nothing is wrapped around it, which could change scopes, or what a failure's traceback begins with."""
    app = App()
    assert loaded(app).loaded_app is app


@pytest.mark.parametrize("setting", ["on", "auto"])
def test_a_lifespan_starts_keeps_a_state_and_ends(setting):
    async def main():
        app = App()
        lifespan = lifespan_of(app, setting)
        await lifespan.startup()
        assert not lifespan.should_exit
        assert lifespan.state == {"database": "open"}
        assert app.events == ["lifespan.startup"]
        await lifespan.shutdown()
        assert app.events == ["lifespan.startup", "lifespan.shutdown"]

    asyncio.run(main())


def test_without_a_lifespan_the_application_is_not_called():
    async def main():
        app = App()
        lifespan = lifespan_of(app, "off")
        await lifespan.startup()
        await lifespan.shutdown()
        assert (lifespan.should_exit, lifespan.state, app.scopes) == (False, {}, [])

    asyncio.run(main())


@pytest.mark.parametrize(
    ("app", "setting", "ends"),
    [
        (reports_a_failure, "on", True),
        (reports_a_failure, "auto", True),
        (raises, "on", True),
        (raises, "auto", False),
    ],
)
def test_a_start_that_fails_is_told_and_logged_with_the_applications_traceback(caplog, app, setting, ends):
    async def main():
        lifespan = lifespan_of(app, setting)
        await lifespan.startup()
        assert lifespan.should_exit == ends
        await lifespan.shutdown()

    caplog.set_level(logging.ERROR, "uvicorn.error")
    asyncio.run(main())
    words = "no database" if app is reports_a_failure else "LookupError: no table"
    assert (words in caplog.text) == ends


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
    call_exit_hooks(loaded(App()))
    ((server, *rest),) = calls
    assert isinstance(server, uvicorn.Server)
    assert rest == [signal.SIGTERM, None]


def test_a_hook_that_fails_is_logged(monkeypatch, caplog):
    def fails(*_):
        raise LookupError("on purpose")

    monkeypatch.setattr("uvicorn.Server.handle_exit", fails)
    call_exit_hooks(loaded(App()))
    assert "a library's hook in uvicorn.Server.handle_exit failed" in caplog.text


async def _hang():
    await asyncio.Event().wait()


def test_a_lifespan_that_does_not_end_is_cut(caplog):
    asyncio.run(stop_lifespan(SimpleNamespace(shutdown=_hang), 0.01))
    assert "the application's lifespan shutdown did not end within 0.0 s: it is cut" in caplog.text
