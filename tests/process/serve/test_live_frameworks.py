"""Frameworks that people use, with ``--resume``: a connection of theirs goes on through reloads and kills."""

import asyncio
import contextlib
import http.client

import pytest
from websockets.sync.client import connect

from .conftest import LIMIT

SOCKETS = {
    "starlette": """
        import os
        from starlette.applications import Starlette
        from starlette.routing import WebSocketRoute

        async def echo(socket):
            await socket.accept()
            async for text in socket.iter_text():
                await socket.send_text(f"{text} {os.getpid()}")

        app = Starlette(routes=[WebSocketRoute("/ws", echo)])
    """,
    "fastapi": """
        import os
        from typing import Annotated
        from fastapi import Cookie, FastAPI, WebSocket, WebSocketException

        app = FastAPI()

        @app.websocket("/ws")
        async def echo(socket: WebSocket, user: Annotated[str | None, Cookie()] = None):
            if user != "ann":
                raise WebSocketException(code=1008)
            await socket.accept()
            async for text in socket.iter_text():
                await socket.send_text(f"{text} {os.getpid()}")
    """,
    "channels": """
        import os
        from django.conf import settings

        settings.configure(
            SECRET_KEY="only for a test",
            INSTALLED_APPS=["channels"],
            CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
            USE_TZ=True,
        )
        import django
        django.setup()
        from channels.generic.websocket import AsyncWebsocketConsumer
        from channels.routing import ProtocolTypeRouter, URLRouter
        from django.urls import path

        class Room(AsyncWebsocketConsumer):
            async def connect(self):
                self.room = self.scope["url_route"]["kwargs"]["room"]
                await self.channel_layer.group_add(self.room, self.channel_name)
                await self.accept()

            async def disconnect(self, code):
                await self.channel_layer.group_discard(self.room, self.channel_name)

            async def receive(self, text_data):
                event = {"type": "chat.message", "text": f"{text_data} {os.getpid()}"}
                await self.channel_layer.group_send(self.room, event)

            async def chat_message(self, event):
                await self.send(text_data=event["text"])

        class Echo(AsyncWebsocketConsumer):
            async def receive(self, text_data):
                await self.send(text_data=f"{text_data} {os.getpid()}")

        routes = [path("room/<slug:room>", Room.as_asgi()), path("ws", Echo.as_asgi())]
        app = ProtocolTypeRouter({"websocket": URLRouter(routes)})
    """,
    "quart": """
        import os
        from quart import Quart, websocket

        app = Quart(__name__)

        @app.websocket("/ws")
        async def echo():
            while True:
                await websocket.send(f"{await websocket.receive()} {os.getpid()}")
    """,
}
STREAMS = {
    "fastapi": """
        import asyncio, os
        from typing import Annotated
        from fastapi import FastAPI, Header
        from fastapi.responses import StreamingResponse

        app = FastAPI()

        @app.get("/events")
        async def events(last_event_id: Annotated[int, Header()] = 0):
            async def count(number):
                while True:
                    number += 1
                    yield f"id: {number}\\ndata: {os.getpid()}\\n\\n"
                    await asyncio.sleep(0.05)

            return StreamingResponse(count(last_event_id), media_type="text/event-stream")
    """,
    "sse_starlette": """
        import asyncio, os
        from sse_starlette import EventSourceResponse
        from starlette.applications import Starlette
        from starlette.routing import Route

        async def count(number):
            while True:
                number += 1
                yield {"id": str(number), "data": str(os.getpid())}
                await asyncio.sleep(0.05)

        async def events(request):
            return EventSourceResponse(count(int(request.headers.get("last-event-id", "0"))))

        app = Starlette(routes=[Route("/events", events)])
    """,
    "quart": """
        import asyncio, os
        from quart import Quart, request

        app = Quart(__name__)

        @app.get("/events")
        async def events():
            async def count(number):
                while True:
                    number += 1
                    yield f"id: {number}\\ndata: {os.getpid()}\\n\\n".encode()
                    await asyncio.sleep(0.05)

            number = int(request.headers.get("last-event-id", "0"))
            return count(number), 200, {"content-type": "text/event-stream"}
    """,
}
SOCKETIO = """
    import os, socketio

    server = socketio.AsyncServer(async_mode="asgi")
    app = socketio.ASGIApp(server)

    @server.event
    async def connect(sid, environ):
        await server.save_session(sid, {"count": 0})

    @server.event
    async def count(sid):
        async with server.session(sid) as session:
            session["count"] += 1
            return [session["count"], os.getpid()]
"""
PACKAGES = {"channels": "channels", "quart": "quart", "sse_starlette": "sse_starlette"}


@pytest.fixture
def resumed(serve):
    """``resumed(name, source)``: a server with ``--resume /`` and a spare worker; skips without the package."""

    def start(name, source, *flags):
        if name in PACKAGES:
            pytest.importorskip(PACKAGES[name], reason=f"{name} is not installed")
        usual = ("--resume", "/", "--workers", "1", "--spare", "1", "--graceful-timeout", "1")
        return serve(f"{name}_:app", *usual, *flags, files={f"{name}_.py": source})

    return start


def websocket(server, path="/ws", **options):
    return connect("ws://{}:{}{}".format(*server.address, path), proxy=None, **options)


def answer(socket, text):
    """The pid that comes back with a text. The application has asked for the next message then, and is idle."""
    found, pid = socket.recv(LIMIT).split()
    assert found == text
    for _ in range(2):  # the worker's loop has run since the answer: uvloop may read one ping before that
        assert socket.ping().wait(LIMIT)
    return int(pid)


def ask(socket, text):
    socket.send(text)
    return answer(socket, text)


def reload(server):
    """Reload, and wait until the old workers have exited: they have nothing to wait for."""
    old = {worker["pid"] for worker in server.status()["workers"]}
    server.cli("reload")
    server.wait_status(lambda status: not old & {worker["pid"] for worker in status["workers"]})


@pytest.mark.parametrize("name", SOCKETS)
def test_a_websocket_goes_on_in_another_worker(resumed, name):
    server = resumed(name, SOCKETS[name])
    with websocket(server, additional_headers={"Cookie": "user=ann"}) as socket:
        first = ask(socket, "first")
        server.kill_worker(first)
        second = ask(socket, "after-kill")
        reload(server)
        third = ask(socket, "after-reload")
    assert len({first, second, third}) == 3
    server.wait_connections(accepted=1, finished=1, live=0, lost=0, resumed=2, told_to_reconnect=0)
    assert "Traceback" not in server.log()


def test_an_application_that_lets_the_disconnect_raise_logs_nothing_when_its_websocket_moves(resumed):
    """As in most tutorials: `receive_text` raises, and nobody catches it."""
    source = SOCKETS["starlette"].replace(
        """async for text in socket.iter_text():
                await socket.send_text(f"{text} {os.getpid()}")""",
        """while True:
                await socket.send_text(f"{await socket.receive_text()} {os.getpid()}")""",
    )
    server = resumed("starlette", source)
    with websocket(server) as socket:
        pid = ask(socket, "first")
        reload(server)
        assert ask(socket, "second") != pid
        assert "Traceback" not in server.log()


def test_a_client_whose_login_has_ended_is_refused_by_the_next_worker(resumed):
    """The application decides anew at each resumption, as at each connect: 1008 is a refusal (403)."""
    source = SOCKETS["fastapi"].replace('user != "ann"', 'user != "ann" or os.path.exists("ended")')
    server = resumed("fastapi", source)
    with websocket(server, additional_headers={"Cookie": "user=ann"}) as socket:
        pid = ask(socket, "first")
        (server.folder / "ended").touch()
        server.kill_worker(pid)
        with pytest.raises(Exception) as caught:
            socket.recv(LIMIT)
    assert caught.value.rcvd.code == 1008


def test_clients_of_a_channels_group_join_it_again(resumed):
    """The in-memory channel layer is the worker's own: all clients are in one worker here."""
    server = resumed("channels", SOCKETS["channels"])
    with contextlib.ExitStack() as held:
        members = [held.enter_context(websocket(server, "/room/blue")) for _ in range(3)]
        other = held.enter_context(websocket(server, "/room/red"))

        def talk(text):
            members[0].send(text)
            (pid,) = {answer(member, text) for member in members}
            assert ask(other, f"{text}-elsewhere") == pid
            return pid

        pid = talk("first")
        server.kill_worker(pid)
        server.wait_connections(resumed=4)
        wait_joined(members)
        assert (second := talk("after-kill")) != pid
        reload(server)
        wait_joined(members)
        assert talk("after-reload") not in {pid, second}
    server.wait_connections(accepted=4, finished=4, live=0, lost=0, told_to_reconnect=0)
    assert "Traceback" not in server.log()


def wait_joined(members):
    """Wait until each member has joined: it receives what it says. Then all receive the last word."""
    for number, member in enumerate(members):
        member.send(f"joined-{number}")
        read_until(member, f"joined-{number}")
    members[0].send("settled")
    for member in members:
        read_until(member, "settled")


def read_until(member, word):
    while member.recv(LIMIT).split()[0] != word:
        pass


HELD = """
    import asyncio, os
    from quart import Quart, websocket

    class Held:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def receive_held():
                message = await receive()
                if message["type"] == "websocket.receive":
                    scope["extensions"]["fdpass"]["resume"].hold()
                return message

            await self.app(scope, receive_held if scope["type"] == "websocket" else receive, send)

    app = Quart(__name__)
    app.asgi_app = Held(app.asgi_app)

    @app.websocket("/ws")
    async def echo():
        resume = websocket.scope["extensions"]["fdpass"]["resume"]
        while True:
            text = await websocket.receive()
            while text == "wait" and not os.path.exists("go"):
                await asyncio.sleep(0.01)
            await websocket.send(f"{text} {os.getpid()}")
            resume.release()
"""


def test_a_message_in_a_queue_of_quart_is_answered_before_the_websocket_moves(resumed):
    """Quart reads ahead: with `hold` the WebSocket stays until the handler has answered all it has."""
    server = resumed("quart", HELD, "--graceful-timeout", "60")
    with websocket(server) as socket:
        pid = ask(socket, "first")
        for text in ("wait", "queued"):
            socket.send(text)
        assert socket.ping().wait(LIMIT)  # both are in the application
        server.cli("reload")
        assert pid in server.workers("retiring")
        (server.folder / "go").touch()
        assert [answer(socket, text) for text in ("wait", "queued")] == [pid, pid]
        server.wait_status(lambda status: pid not in {worker["pid"] for worker in status["workers"]})
        assert ask(socket, "last") != pid
    server.wait_connections(accepted=1, finished=1, live=0, lost=0, resumed=1)


class Events:
    """An event stream, read event by event; it never connects a second time."""

    def __init__(self, server):
        self._connection = http.client.HTTPConnection(*server.address, timeout=LIMIT)
        self._connection.request("GET", "/events")
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        self.number = 0

    def next(self):
        """The pid in the next event, whose number is the next one."""
        found = {}
        while line := self._response.readline().strip():
            name, _, value = line.decode().partition(": ")
            found[name] = value
        self.number += 1
        assert int(found["id"]) == self.number
        return int(found["data"])

    def next_from_other(self, pid):
        """Read events until one comes from another worker than this; returns its pid."""
        while (found := self.next()) == pid:
            pass
        return found

    def close(self):
        self._response.close()
        self._connection.close()


@pytest.mark.parametrize("name", STREAMS)
def test_an_event_stream_goes_on_in_another_worker(resumed, name):
    """No event is lost, and none comes twice."""
    server = resumed(name, STREAMS[name])
    with contextlib.closing(Events(server)) as events:
        first = events.next()
        server.kill_worker(first)
        second = events.next_from_other(first)
        reload(server)
        assert events.next_from_other(second) != first
    server.wait_connections(accepted=1, finished=1, live=0, lost=0, resumed=2)
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("how", ["kill", "reload"])
def test_socketio_without_resume_connects_again(serve, how):
    """As with uvicorn: its session is in its worker's memory, so its client needs a new one."""
    socketio = pytest.importorskip("socketio", reason="python-socketio is not installed")
    flags = ("--workers", "1", "--spare", "1", "--graceful-timeout", "1")
    server = serve("app:app", *flags, files={"app.py": SOCKETIO})

    async def play():
        client = socketio.AsyncClient(reconnection_delay=0.1, reconnection_delay_max=0.5)
        connected = asyncio.Queue()
        client.on("connect", lambda: connected.put_nowait(True))
        async with asyncio.timeout(LIMIT):
            await client.connect("http://{}:{}".format(*server.address), transports=["websocket"])
            await connected.get()
            first = await client.call("count")
            act = (server.kill_worker, first[1]) if how == "kill" else (server.cli, "reload")
            await asyncio.to_thread(*act)
            await connected.get()
            second = await client.call("count")
            await client.disconnect()
        return first, second

    first, second = asyncio.run(play())
    assert (first[0], second[0]) == (1, 1)
    assert first[1] != second[1]
    server.wait_connections(accepted=2, live=0, resumed=0)
