"""The application that the servers of serve.py run: a plain ASGI function, without a framework.

`/` answers the same 14 bytes each time, `/pid` answers the pid of the worker, `/sse` sends the pid as the first
event of a stream, and keeps the stream open until the client disconnects. `/events` is a stream to which `/next`
adds an event with an id. `/echo` is a WebSocket that sends each text back.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
NEXT = asyncio.Queue[None]()  # an event is to be sent


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/":
        await answer(send, b"Hello, world!\n")
    elif scope["path"] == "/pid":
        await answer(send, b"%d" % os.getpid())
    elif scope["path"] == "/sse":
        await stream(receive, send)
    elif scope["path"] == "/events":
        await events(send)
    elif scope["path"] == "/next":
        NEXT.put_nowait(None)
        await answer(send, b"Hello, world!\n")
    elif scope["path"] == "/echo":
        await echo(receive, send)
    else:
        await answer(send, b"Not here\n", 404)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


async def start(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    await start(send, status, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))])
    await send({"type": "http.response.body", "body": body})


async def stream(receive: Receive, send: Send) -> None:
    await start(send, 200, [(b"content-type", b"text/event-stream")])
    await send({"type": "http.response.body", "body": b"data: %d\n\n" % os.getpid(), "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def events(send: Send) -> None:
    """The only stream of the server."""
    await start(send, 200, [(b"content-type", b"text/event-stream")])
    count = 0
    while True:
        await NEXT.get()
        count += 1
        body = b"id: %d\ndata: Hello, world!\n\n" % count
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def echo(receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
