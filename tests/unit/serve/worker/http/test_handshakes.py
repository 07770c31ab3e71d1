"""Handshakes of WebSockets that one of uvicorn's classes, or the application, does not answer."""

import asyncio

import pytest

from fdpass.serve.shared.slots import FLAGS, Flag
from fdpass.serve.worker.engines import asgi

from ._client import turns
from .test_live_websockets import CLASSES, Script, Words, each_class, moved
from .test_upgrades import HANDSHAKE, Socket, opened, reply

pytest.importorskip("websockets")
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:websockets\..* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated"),
]
__all__ = ["each_class"]  # a fixture
_EMPTY = HANDSHAKE.removesuffix(b"\r\n")
LONG_LINE, MANY_LINES, LONG_TARGET = "a long line", "many lines", "a long target"
HEADS = {
    LONG_LINE: _EMPTY + b"x: " + b"y" * 8190 + b"\r\n\r\n",
    MANY_LINES: _EMPTY + b"x: y\r\n" * 130 + b"\r\n",
    LONG_TARGET: HANDSHAKE.replace(b"/ws", b"/ws/" + b"x" * 8190),
}


async def _start(fresh, **settings):
    if fresh.kind == "custody":
        settings["resume"] = ("/ws",)
    await fresh.start(**settings)


async def _only(fresh, *kinds):
    if fresh.kind not in kinds:
        pytest.skip(f"only with {kinds}")


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("resume", [("/ws",), ()])
@pytest.mark.usefixtures("each_class")
async def test_a_head_that_is_too_long_for_the_class_is_refused(fresh, name, head, resume):
    """uvicorn on the present websockets never answers; its other classes refuse it, or open the WebSocket."""
    await _only(fresh, "custody", *(() if resume else ("plain", "tls", "uvicorn")))
    await fresh.start(**({"resume": resume} if resume else {}))
    app = Socket()
    client = await fresh(app)
    await client.send(HEADS[head])
    if name == "wsproto":
        await opened(client)
        return
    if fresh.reference and name == "websockets-sansio":
        assert await client.quiet()
        return
    answer = await client.answer()
    assert answer.status == (431 if name == "websockets-sansio" else 400)
    assert await client.ended()
    assert not app.scopes
    if name == "websockets-sansio":
        assert answer[b"date"]
        assert answer.body == b"The head of the request is too large."
        host, port = client.sock.getsockname()
        (line,) = fresh.lines
        assert line.startswith(f"client {host}:{port} gets a 431: the handshake of a WebSocket: ")


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("parts", [[70_000], [200_000], [10_000] * 20, [65_000, 1000, 1], [1000, 70_000, 1000]])
@pytest.mark.usefixtures("each_class")
async def test_a_long_refusal_comes_as_the_application_sent_it(fresh, name, parts):
    """More than 64 KiB go out before the refusal is whole."""

    async def app(scope, receive, send):
        head = [(b"content-length", b"%d" % sum(parts)), (b"content-type", b"text/plain")]
        await send({"type": "websocket.http.response.start", "status": 403, "headers": head})
        for number, body in enumerate(bodies, 1):
            message = {"type": "websocket.http.response.body", "body": body, "more_body": number < len(bodies)}
            await send(message)

    bodies = [bytes([65 + number]) * size for number, size in enumerate(parts)]
    await _start(fresh)
    client = await fresh(app)
    await client.send(HANDSHAKE)
    out, _ = await client.out()
    head, _, body = out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    if name == "websockets":  # it waits for no body, and has only what is there in that moment
        assert b"".join(bodies).startswith(body)
    else:
        assert body == b"".join(bodies)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.usefixtures("each_class")
async def test_a_websocket_with_an_absolute_target_ends_with_its_worker(fresh, name):
    """Its path is the whole target, for uvicorn's classes, too; no prefix names that."""
    await _only(fresh, "custody")
    await _start(fresh)
    app = Script()
    client = await fresh(app)
    await client.send(HANDSHAKE.replace(b"/ws", b"http://x/ws"))
    await opened(client)
    call = await app.next()
    assert (call.scope["path"], "resume" in call.about) == ("http://x/ws", False)
    assert Words(fresh.server)[FLAGS] & Flag.OPAQUE
    call.over.set()


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.usefixtures("each_class")
async def test_a_handshake_that_is_not_answered_ends_when_a_plain_one_does(fresh, name):
    """The class on the old websockets waits for 10 seconds; the others wait as they do for any response."""
    await _start(fresh)
    app = Silent()
    client = await fresh(app)
    await client.send(HANDSHAKE)
    await app.called.wait()
    if name == "websockets":
        assert (await client.out()) == (b"", "closed")
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(12):
                await client.out()


class Silent:
    """An application that does not answer a handshake."""

    def __init__(self):
        self.called = asyncio.Event()

    async def __call__(self, scope, receive, send):
        assert (await receive())["type"] == "websocket.connect"
        self.called.set()
        assert (await receive())["type"] == "websocket.disconnect"


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.usefixtures("each_class")
async def test_a_handshake_that_is_not_answered_ends_with_a_retiring_worker(fresh, name):
    await _only(fresh, "custody", "plain")
    await _start(fresh)
    app = Silent()
    client = await fresh(app)
    await client.send(HANDSHAKE)
    await app.called.wait()
    await fresh.server.retire(3.0)
    assert (await client.answer()).status == 500
    assert await client.ended()


@pytest.mark.parametrize("name", ["websockets"])
@pytest.mark.usefixtures("each_class")
async def test_a_resumed_websocket_that_is_not_accepted_in_time_is_told_to_connect_again(fresh):
    """Its client has an open WebSocket, which must not end without a close frame."""
    await _only(fresh, "custody")
    app = Script()
    await _start(fresh)
    fresh.server.engine._config.ws_ping_interval = None  # else a ping could come first
    client = await fresh(app)
    await client.send(HANDSHAKE)
    await opened(client)
    call = await app.next()
    await turns(5)
    assert Words(fresh.server).state == b""
    fresh.server.switch.app = Silent()
    await moved(fresh, call)
    assert await client.exactly(4) == reply((1012).to_bytes(2), 8)
    assert await client.ended()


async def test_the_dispatcher_is_told_of_the_import_of_uvicorn_before_it(fresh, monkeypatch):
    """Else the worker would count as stuck, and others would get the connections that are its share."""
    await _only(fresh, "custody")
    await fresh.start()
    engine, said = fresh.server.engine, []
    engine._excuse = said.append
    monkeypatch.setattr(asgi, "websocket_maker", lambda *_: said.append("imported"))
    assert engine.websocket is None
    assert (said[0] > 1, said[1:]) == (True, ["imported"])
