"""What worker/live/ relies on in uvicorn's three WebSocket classes: an upgrade that breaks it fails."""

import asyncio
import warnings

import pytest

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from uvicorn.server import ServerState  # noqa: E402 - after the check that it is installed

from fdpass.serve.worker.live.uvicorn_class import forget_context  # noqa: E402 - likewise

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:websockets\..* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated"),
]
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: one, two\r\n"
    b"sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
PING, CLOSE, TEXT = b"\x89\x81\0\0\0\0p", b"\x88\x82\0\0\0\0\x03\xe8", b"\x81\x84\0\0\0\0text"


class Transport(asyncio.Transport):
    """It records each write."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.closed = False

    def write(self, data):
        if data:
            self.writes.append(bytes(data))

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def can_write_eof(self):
        return False

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


class App:
    """An application that accepts, and records what it receives; or does what it is told first."""

    def __init__(self, *first):
        self.first = first or ({"type": "websocket.accept", "subprotocol": "two"},)
        self.received = []
        self.send = None

    async def __call__(self, scope, receive, send):
        self.send = send
        for message in self.first:
            if isinstance(message, Exception):
                raise message
            await send(message)
        while self.received[-1:] == [] or self.received[-1]["type"] != "websocket.disconnect":
            self.received.append(await receive())


def run(name, app, test):
    """Run a test with an object of one of the classes, and its transport, which has got the handshake."""

    async def main():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = uvicorn.Config(lambda: None, ws=name, lifespan="off", log_config=None, interface="asgi3")
            config.load()
        protocol = config.ws_protocol_class(config=config, server_state=ServerState(), app_state={})
        protocol.app = app
        forget_context(protocol)
        transport = Transport()
        protocol.connection_made(transport)
        protocol.data_received(HANDSHAKE)
        await turns()
        await test(protocol, transport)
        if not transport.closed:
            transport.closed = True
        protocol.connection_lost(None)
        await turns()

    if name == "wsproto":
        pytest.importorskip("wsproto")
    asyncio.run(main())


async def turns():
    for _ in range(20):
        await asyncio.sleep(0)


each_class = pytest.mark.parametrize("name", ["websockets", "websockets-sansio", "wsproto"])


@each_class
def test_the_attribute_app_is_called_and_the_101_is_one_write(name):
    app = App()

    async def test(_, transport):
        (head,) = transport.writes
        assert head.startswith(b"HTTP/1.1 101 ")
        assert head.endswith(b"\r\n\r\n")
        head = head.lower()
        assert b"\r\nsec-websocket-protocol: two\r\n" in head
        for side in (b"client", b"server"):
            assert side + b"_no_context_takeover" in head

    run(name, app, test)


@each_class
def test_each_write_consists_of_whole_frames(name):
    """The answers to control frames, too."""
    app = App()

    async def test(protocol, transport):
        transport.writes.clear()
        protocol.data_received(PING + PING)
        await turns()
        assert b"".join(transport.writes) == b"\x8a\x01p" * 2
        assert all(len(data) % 3 == 0 for data in transport.writes)
        transport.writes.clear()
        await app.send({"type": "websocket.send", "bytes": b"y" * 100_000})
        (data,) = transport.writes
        assert data[0] & 15 == 2
        transport.writes.clear()
        protocol.data_received(PING + CLOSE)
        await turns()
        assert b"".join(transport.writes) == b"\x8a\x01p\x88\x02\x03\xe8"
        assert all(data[0] in {0x8A, 0x88} for data in transport.writes)

    run(name, app, test)


@each_class
def test_messages_come_in_their_order_and_each_whole(name):
    app = App()

    async def test(protocol, _):
        protocol.data_received(TEXT + b"\x01\x82\0\0\0\0fr" + PING + b"\x80\x84\0\0\0\0ames")
        await turns()
        texts = [message["text"] for message in app.received if message["type"] == "websocket.receive"]
        assert texts == ["text", "frames"]

    run(name, app, test)


@each_class
@pytest.mark.parametrize(
    ("first", "status"),
    [
        ([{"type": "websocket.close"}], b"403"),
        ([LookupError("on purpose")], b"500"),
        (
            [
                {"type": "websocket.http.response.start", "status": 401, "headers": []},
                {"type": "websocket.http.response.body", "body": b"no", "more_body": True},
                {"type": "websocket.http.response.body", "body": b" entry"},
            ],
            b"401",
        ),
    ],
)
def test_a_refusal_is_written_before_the_transport_is_closed(name, first, status):
    async def test(_, transport):
        answer = b"".join(transport.writes)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert transport.closed
        if status == b"401":
            assert b"no" in answer
            assert b" entry" in answer

    run(name, App(*first), test)
