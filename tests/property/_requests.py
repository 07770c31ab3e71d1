"""What the simulated clients of the custody tests ask for, what answers them, and what it has to answer."""

import asyncio
import functools
import logging
import socket
from dataclasses import dataclass
from unittest import mock

from fdpass.serve.worker.engines.asgi import eager
from fdpass.serve.worker.http.protocol import HttpProtocol
from fdpass.serve.worker.http.request import KnownHeaders
from fdpass.serve.worker.request_count import RequestCount

LOG = logging.getLogger("fdpass.serve")  # tells of applications that fail because they are told to


async def app(scope, receive, send):
    """Does what the path says."""
    _, kind, name = scope["path"].split("/")
    body = b""
    if kind not in {"early", "raise"}:
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
    if kind == "raise":
        raise RuntimeError(name)
    parts = [b"<%b %b %d %b>" % (name.encode(), scope["method"].encode(), len(body), body)]
    headers = [(b"connection", b"close")] if kind == "close" else []
    if kind == "big":
        parts = [parts[0][:60] * 12]
    elif kind in {"stream", "tail"}:
        parts = [b"part", parts[0] * 3, b"last"]
    if kind == "tail":
        headers.append((b"content-length", b"%d" % sum(map(len, parts))))
        parts.append(b"")
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, part in enumerate(parts):
        await send({"type": "http.response.body", "body": part, "more_body": number + 1 < len(parts)})
        if kind == "slow":
            await asyncio.sleep(0)
    if kind == "after":
        for _ in range(3):
            await asyncio.sleep(0)


class Upgraded:
    """In the place of a WebSocket protocol: says hello, and then what it is told."""

    def __init__(self, passed):
        pass

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" if data.startswith(b"GET") else data)

    def connection_lost(self, exc):
        pass


@dataclass
class Request:
    """One request of the client.

    Attributes:
        kind: What the application does.
        data: Its bytes.
        waits: The client sends it after the whole response to the one before.
        answer: What it has to get.
        calls: How often the application was called for it.
        number: Its place in the stream.
    """

    kind: str
    method: str
    data: bytes
    waits: bool = False
    answer: bytes = b""
    calls: int = 0
    number: int = 0

    @property
    def closing(self):
        return b"connection: close" in self.answer.lower() or b"HTTP/1.0" in self.data


def request(name, kind="plain", method="GET", body=None, *, pieces=0, version="1.1", headers="", waits=False):
    """Its bytes; a body in chunks of a size if ``pieces`` says so."""
    head = f"{method} /{kind}/{name} HTTP/{version}\r\nHost: x\r\n{headers}"
    data = b""
    if pieces:
        head += "Transfer-Encoding: chunked\r\n"
        cut = [body[start : start + pieces] for start in range(0, len(body), pieces)]
        data = b"".join(b"%x;a=b\r\n%b\r\n" % (len(piece), piece) for piece in cut) + b"0\r\nT: r\r\n\r\n"
    elif body is not None:
        head += f"Content-Length: {len(body)}\r\n"
        data = body
    return Request(kind, method, head.encode() + b"\r\n" + data, waits)


class Idle(set):
    """In the place of an `IdleTimer`."""

    def add_at(self, thing, now):
        self.add(thing)


class Engine:
    """An engine of `HttpProtocol` whose heads wait until the test flushes them, and whose idle time never ends."""

    def __init__(self, app):
        self.app = app
        self.loop = asyncio.get_running_loop()
        self.count, self.known, self.root_path = RequestCount(), KnownHeaders(), ""
        self.date = self.dateless = b""
        self.forwarding = None
        self.connections, self.exchanges, self.heads = set(), set(), []
        self.state, self.websocket, self.websockets = {}, Upgraded, None
        self.idle, self.head_timer = Idle(), None
        self.head_max, self.body_max = 64 * 1024, 0
        self.flush_soon = self.heads.append

    def server_of(self, passed):
        return "192.0.2.2", 80

    def start_exchange(self, exchange):
        self.exchanges.add(exchange)
        task = (eager(self.loop) or self.loop.create_task)(exchange.run(self.app))
        if not task.done():
            exchange.task = task

    def start_exchange_soon(self, exchange):
        self.exchanges.add(exchange)
        exchange.task = self.loop.create_task(exchange.run(self.app))


SOCKETS = socket.socketpair()


class Passed:
    """A socket, as far as the protocol asks it. Nothing is unread in it."""

    slot = 0
    client = None
    fileno = SOCKETS[0].fileno
    tls_by_proxy = False

    def __init__(self, unix):
        self.is_unix = unix

    def getpeername(self):
        return "192.0.2.1", 1234


class Wire:
    """A transport that takes everything."""

    quiet = True

    def __init__(self):
        self.extensions = {}
        self.out, self.closing = b"", False

    def linger(self):
        pass

    def hand_over(self, websockets, protocol, handshake):
        return False

    def write(self, data):
        self.out += data

    def respond(self, data, last):
        self.out += data
        self.closing = last

    def close(self):
        self.closing = True

    def cut(self, *, reset):
        self.closing = True

    def is_closing(self):
        return self.closing

    def called(self, scope):
        pass

    def get_extra_info(self, name, default=None):
        return default

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    read_no_more = pause_reading

    def set_protocol(self, protocol):
        pass


@functools.cache
def answer(data, unix):
    """What is answered to one request where nobody dies."""

    async def main():
        wire = Wire()
        protocol = HttpProtocol(Engine(app), Passed(unix))
        protocol.connection_made(wire)
        protocol.data_received(data)
        for _ in range(20):
            await asyncio.sleep(0)
        return wire.out

    with mock.patch.object(LOG, "disabled", True):
        return asyncio.run(main())
