"""Upgrades: a WebSocket gets its protocol, and a request for any other protocol is answered as HTTP."""

import base64
import hashlib

import pytest

from fdpass.serve.shared.slots import BUFFER, WORDS

from ._apps import Echo, Steps
from ._client import turns

pytest.importorskip("websockets")

# The oldest uvicorn that we admit takes websockets' legacy implementation.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:websockets\..* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
HANDSHAKE = (
    b"GET /ws?query HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)
FIELDS = (b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABkAAQAAP__")


def frame(data, opcode=1):
    """A client's frame, with a mask of zeros."""
    return bytes([0x80 | opcode, 0x80 | len(data), 0, 0, 0, 0]) + data


def reply(data, opcode=1):
    """A server's frame."""
    return bytes([0x80 | opcode, len(data)]) + data


class Socket:
    """An application that echoes the messages of WebSockets, and records them."""

    def __init__(self, *, refuse=False):
        self.refuse = refuse
        self.scopes = []
        self.messages = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        if scope["type"] == "http":
            await Echo()(scope, receive, send)
            return
        self.messages.append(await receive())
        if self.refuse:
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        while True:
            self.messages.append(await receive())
            if self.messages[-1]["type"] == "websocket.disconnect":
                return
            await send({"type": "websocket.send", "text": self.messages[-1]["text"]})


async def opened(client):
    head = await client.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nsec-websocket-accept: " + ACCEPT.lower() in head.lower()


async def shut(client):
    await client.send(frame((1000).to_bytes(2), 8))
    assert await client.exactly(4) == reply((1000).to_bytes(2), 8)
    assert await client.ended()


async def test_a_websocket_is_opened_and_echoes(serve):
    app = Socket()
    client = await serve(app)
    await client.send(HANDSHAKE)
    await opened(client)
    for text in (b"one", b"two"):
        await client.send(frame(text))
        assert await client.exactly(5) == reply(text)
    await shut(client)
    await serve.over()
    scope = app.scopes[0]
    assert (scope["type"], scope["path"], scope["query_string"]) == ("websocket", "/ws", b"query")
    assert scope["scheme"] == ("wss" if serve.kind == "tls" else "ws")
    assert (scope["client"], scope["state"]["number"]) == (client.sock.getsockname(), 1)
    assert [message["type"] for message in app.messages] == [
        "websocket.connect",
        "websocket.receive",
        "websocket.receive",
        "websocket.disconnect",
    ]


async def test_a_handshake_that_arrives_byte_by_byte(serve):
    client = await serve(Socket())
    for byte in HANDSHAKE:
        await client.send(bytes([byte]))
    await opened(client)
    await client.send(frame(b"one"))
    assert await client.exactly(5) == reply(b"one")
    await shut(client)


async def test_frames_that_arrive_with_the_handshake(serve):
    """uvicorn loses them: it gives its WebSocket class the head alone.

    RFC 6455 4.1: a client must wait for the response. Better: the server reads them, or refuses the handshake.
    """
    client = await serve(Socket())
    await client.send(HANDSHAKE + frame(b"one"))
    head = await client.until(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 400"):
        serve.agreed("refused", "lost", "refused")
        return
    await client.send(frame(b"two"))
    first = await client.exactly(5)
    serve.agreed(first, reply(b"two"), reply(b"one"))
    if first == reply(b"one"):
        assert await client.exactly(5) == reply(b"two")
    await shut(client)


async def test_a_websocket_after_another_request(serve):
    app = Socket()
    client = await serve(app)
    assert (await client.get()).body == b"ok"
    await client.send(HANDSHAKE)
    await opened(client)
    await client.send(frame(b"one"))
    assert await client.exactly(5) == reply(b"one")
    await shut(client)
    assert [scope["type"] for scope in app.scopes] == ["http", "websocket"]


async def test_a_websocket_pipelined_after_another_request(serve):
    """uvicorn calls the WebSocket's application while the first request is in progress: their bytes could mix.

    Better: the first response first.
    """
    app = Steps()
    client = await serve(app)
    await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + HANDSHAKE)
    first = await app.next()
    assert first.scope["type"] == "http"
    await turns()
    serve.agreed(app.waiting, 1, 0)
    await first.answer()
    assert (await client.answer()).body == b"ok"
    second = await app.next()
    assert second.scope["type"] == "websocket"
    await second.send({"type": "websocket.accept"})
    await opened(client)
    second.end()


async def test_a_websocket_that_is_refused(serve):
    app = Socket(refuse=True)
    client = await serve(app)
    await client.send(HANDSHAKE)
    answer = await client.answer()
    assert (answer.status, answer.body) == (403, b"")
    assert await client.ended()


async def test_the_application_of_a_websocket_fails(serve):
    async def app(scope, receive, send):
        raise LookupError

    client = await serve(app)
    await client.send(HANDSHAKE)
    assert (await client.answer()).status == 500
    assert await client.ended()
    assert len(serve.lines) == 1


async def test_an_invalid_handshake_is_refused(serve):
    app = Socket()
    client = await serve(app)
    await client.send(HANDSHAKE.replace(b"Sec-WebSocket-Key: " + KEY + b"\r\n", b""))
    assert (await client.answer()).status == 400
    assert await client.ended()
    assert app.scopes == []


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_the_client_of_a_websocket_goes(serve, end):
    app = Socket()
    client = await serve(app)
    await client.send(HANDSHAKE)
    await opened(client)
    getattr(client, end)()
    await serve.over()
    assert app.messages[-1]["type"] == "websocket.disconnect"


async def test_a_handshake_in_upper_and_lower_case(serve):
    client = await serve(Socket())
    await client.send(
        HANDSHAKE.replace(b"websocket\r\n", b"WebSocket\r\n").replace(b": Upgrade", b": keep-alive, upgrade")
    )
    await opened(client)
    await shut(client)


async def test_an_upgrade_that_connection_does_not_name_is_http(serve):
    app = Socket()
    client = await serve(app)
    await client.send(HANDSHAKE.replace(b"Connection: Upgrade\r\n", b""))
    assert (await client.answer()).body == b"ok"
    assert app.scopes[0]["type"] == "http"
    assert (await client.get()).body == b"ok"


@pytest.mark.parametrize("fields", [FIELDS, (b"Upgrade: other/1.0", b"Connection: upgrade")])
async def test_an_unknown_protocol_is_answered_as_http(serve, fields):
    """uvicorn logs a warning."""
    app = Echo()
    client = await serve(app)
    answer = await client.get(b"/", *fields)
    assert (answer.status, answer.body) == (200, b"ok")
    assert app.scope["type"] == "http"
    lines = serve.lines
    assert lines == ["Unsupported upgrade request."] if serve.reference else len(lines) <= 1


async def test_the_next_request_after_an_unknown_protocol(serve):
    app = Echo()
    client = await serve(app)
    assert (await client.get(b"/", *FIELDS)).body == b"ok"
    await client.request()
    out = (await client.answer()).body
    assert out == b"ok"
    assert len(app.scopes) == 2


async def test_a_pipelined_request_after_an_unknown_protocol(serve):
    """uvicorn's parser stops after the first head, and loses the second request. Better: the server answers it."""
    app = Steps()
    client = await serve(app)
    head = b"\r\n".join([b"GET /1 HTTP/1.1", b"Host: x", *FIELDS, b"", b""])
    await client.send(head + b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
    await (await app.next()).answer()
    assert (await client.answer()).body == b"ok"
    await turns()
    serve.agreed(app.waiting, 0, 1)
    if app.waiting:
        await (await app.next()).answer()
        assert (await client.answer()).body == b"ok"


async def test_a_body_with_an_unknown_protocol(serve):
    """llhttp takes the body for the other protocol's bytes, and uvicorn loses it. RFC 9110 7.8: it is a body."""
    app = Steps()
    client = await serve(app)
    await client.request(b"/", *FIELDS, method=b"POST", body=b"body")
    call = await app.next()
    message = await call.receive()
    serve.agreed((message["body"], message["more_body"]), (b"", False), (b"body", False))
    await call.answer()
    assert (await client.answer()).body == b"ok"


WITHOUT_CONNECTION = (b"Upgrade: websocket",)


@pytest.mark.parametrize("fields", [FIELDS, WITHOUT_CONNECTION, (b"Upgrade: other/1.0", b"Connection: upgrade")])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_connection_with_an_upgrade_that_is_ignored_stays_in_custody(fresh, fields, chunked):
    """A retiring worker gives it back, and the next worker serves it."""
    if fresh.kind != "custody":
        pytest.skip("of custody only")
    await fresh.start()
    app = Echo()
    client = await fresh(app)
    assert (await client.get(b"/", *fields)).body == b"ok"
    if chunked:
        await client.request(b"/", *fields, b"Transfer-Encoding: chunked", method=b"POST")
        await client.send(b"4\r\nbody\r\n0\r\n\r\n")
    else:
        await client.request(b"/", *fields, method=b"POST", body=b"body")
    assert (await client.answer()).body == b"body"
    await fresh.server.retire(30.0)
    await fresh.server.restart()
    (passed,) = fresh.server.returned
    fresh.server.returned.clear()
    fresh.server.take_again(passed)
    assert (await client.get()).body == b"ok"


@pytest.mark.parametrize("refused", [False, True])
async def test_a_connection_that_custody_has_left_names_no_buffer(fresh, refused):
    """The buffer may be that of another connection by then, whose request must not be logged in its place.

    A WebSocket has left custody, and so has a connection that lingers behind the refusal of its body.
    """
    if fresh.kind != "custody":
        pytest.skip("it is about custody")
    await fresh.start(max_body_size=1000)
    client = await fresh(Socket())
    sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" if refused else HANDSHAKE
    await client.send(sent)
    await client.until(b"\r\n\r\n")
    await turns()
    (passed,) = fresh.server.open
    assert fresh.server._slots[passed.slot * WORDS + BUFFER] == 0
