"""What the simulated clients of the custody tests ask for, what answers them, and what it has to answer."""

import asyncio
import functools
import logging
from dataclasses import dataclass

import uvicorn
from uvicorn.server import ServerState


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

    def __init__(self, config, server_state, app_state):
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


@functools.cache
def configured(http):
    """A loaded configuration of uvicorn."""
    config = uvicorn.Config(
        app, interface="asgi3", http=http, ws=Upgraded, lifespan="off", log_config=None, access_log=False
    )
    config.load()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return config


class Plain:
    """A transport that takes everything."""

    def __init__(self):
        self.out, self.closing = b"", False

    def write(self, data):
        self.out += data

    def close(self):
        self.closing = True

    def is_closing(self):
        return self.closing

    def get_extra_info(self, name, default=None):
        return default

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def set_protocol(self, protocol):
        pass


@functools.cache
def answer(http, data):
    """What uvicorn alone says to one request."""

    async def main():
        config, transport = configured(http), Plain()
        protocol = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})
        protocol.connection_made(transport)
        protocol.data_received(data)
        for _ in range(20):
            await asyncio.sleep(0)
        return transport.out

    return asyncio.run(main())
