"""The clients of instructions.py: exactly so many requests."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

HOST = "127.0.0.1"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
BROWSER = (  # 8 headers, which come after Host
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Connection: keep-alive\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"Cache-Control: max-age=0\r\n"
)
ITEM = b'{"name": "teapot", "price": 12.5, "tags": ["kitchen", "blue"]}'
POST = (
    b"POST /items HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(ITEM), ITEM)
)
PRICED = b'{"name":"teapot","total":25.0}'
UPGRADE = (
    b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
STREAM = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n"
TEXT = b"Hello, world!\n"
PING, PONG = 0x9, 0xA
CROWD = 32  # connections, as of wrk in serve.py
REST = 0.006  # seconds between two connections: the dispatcher reads the ends of connections each 5 ms at most


def get(headers: bytes = b"") -> bytes:
    return b"GET / HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % headers


def whole(sock: socket.socket) -> bytes:
    """Receive one answer, whose length its head tells. Returns the body."""
    answer = b""
    while True:
        head, found, body = answer.partition(b"\r\n\r\n")
        if found:
            length = LENGTH.search(head)
            if not head.startswith(b"HTTP/1.1 200 ") or length is None or len(body) > int(length[1]):
                raise RuntimeError(f"a wrong answer: {answer[:200]!r}")
            if len(body) == int(length[1]):
                return body
        if not (data := sock.recv(65536)):
            raise RuntimeError(f"the server closed the connection after {answer[:200]!r}")
        answer += data


class Client:
    """Sends `request` on one connection, and compares the answer with `body`."""

    keeps = True  # one connection for all requests

    def __init__(self, port: int, request: bytes, body: bytes) -> None:
        self.port, self.request, self.body = port, request, body
        if self.keeps:
            self.sock = self.connected()

    def connected(self) -> socket.socket:
        sock = socket.create_connection((HOST, self.port), timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def ask(self) -> None:
        self.sock.sendall(self.request)
        self.check(whole(self.sock))

    def check(self, body: bytes) -> None:
        if body != self.body:
            raise RuntimeError(f"a wrong answer: {body[:200]!r}")

    def close(self) -> None:
        if self.keeps:
            self.sock.close()


class Connector(Client):
    """Opens a connection for each request, and waits until the server has closed it."""

    keeps = False

    def ask(self) -> None:
        time.sleep(REST)
        with self.connected() as sock:
            sock.sendall(self.request)
            self.check(whole(sock))
            if sock.recv(1):
                raise RuntimeError("more bytes follow the answer")


class Crowd(Connector):
    """Opens `CROWD` connections at a time, and sends a request on each before it reads the first answer."""

    def ask(self) -> None:
        time.sleep(REST)
        socks = [self.connected() for _ in range(CROWD)]
        for sock in socks:
            sock.sendall(self.request)
        for sock in socks:
            with sock:
                self.check(whole(sock))
                if sock.recv(1):
                    raise RuntimeError("more bytes follow the answer")


class Echo(Client):
    """Opens a WebSocket, and sends `request` as a text. The server's pings, one each 20 s, are answered."""

    def connected(self) -> socket.socket:
        sock = super().connected()
        sock.sendall(UPGRADE)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += received(sock, 1)
        return sock

    def ask(self) -> None:
        self.sock.sendall(frame(0x1, self.request))
        while (head := received(self.sock, 2))[0] == 0x80 | PING:
            self.sock.sendall(frame(PONG, received(self.sock, head[1])))
        self.check(received(self.sock, head[1]))


class Events(Client):
    """Opens an event stream, and sends a GET on another connection, at which the server sends an event."""

    def __init__(self, port: int, request: bytes, body: bytes) -> None:
        super().__init__(port, request, body)
        self.stream = self.connected()
        self.stream.sendall(STREAM)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += received(self.stream, 1)
        self.count = 0

    def ask(self) -> None:
        super().ask()
        self.count += 1
        event = b"id: %d\ndata: Hello, world!\n\n" % self.count
        self.check_event(received(self.stream, len(b"%x" % len(event)) + 4 + len(event)), event)

    def check_event(self, chunk: bytes, event: bytes) -> None:
        if chunk != b"%x\r\n%b\r\n" % (len(event), event):
            raise RuntimeError(f"a wrong event: {chunk!r}")

    def close(self) -> None:
        super().close()
        self.stream.close()


def frame(opcode: int, data: bytes) -> bytes:
    """A WebSocket frame of a client: masked, with a mask that leaves the data as it is."""
    return bytes([0x80 | opcode, 0x80 | len(data)]) + bytes(4) + data


def received(sock: socket.socket, size: int) -> bytes:
    if len(data := sock.recv(size, socket.MSG_WAITALL)) < size:
        raise RuntimeError("the server closed the WebSocket")
    return data


@dataclass(frozen=True)
class Case:
    """What one request is."""

    about: str
    client: Callable[[int], Client]  # of a port
    app: str = "serve_app:app"
    connects: bool = False  # the dispatcher works for each request
    at_once: int = 1  # requests that the client sends at a time

    def whole_rounds(self, requests: int) -> int:
        """So many requests, or the few more that make the last ones as many as the others."""
        return -(-requests // self.at_once) * self.at_once


CASES = {
    "keep-alive": Case("GET with 1 header", lambda port: Client(port, get(), TEXT)),
    "browser": Case("GET with 9 headers", lambda port: Client(port, get(BROWSER), TEXT)),
    "connection": Case(
        "GET on a connection of its own",
        lambda port: Connector(port, get(b"Connection: close\r\n"), TEXT),
        connects=True,
    ),
    "connections": Case(
        f"GET on a connection of its own, {CROWD} at a time",
        lambda port: Crowd(port, get(b"Connection: close\r\n"), TEXT),
        connects=True,
        at_once=CROWD,
    ),
    "websocket": Case("WebSocket message and its echo", lambda port: Echo(port, TEXT, TEXT)),
    "event": Case("GET, and an event of a stream", lambda port: Events(port, NEXT, TEXT)),
    "fastapi": Case(
        "POST of a pydantic model to FastAPI",
        lambda port: Client(port, POST, PRICED),
        app="_instructions_api:app",
    ),
}
