"""The application of `fdpass demo live`: a page, a WebSocket and an event stream that go on counting.

Both keep their count where another worker finds it: the WebSocket in its state (`fdpass.serve.Resume`), the event
stream in the ids of its events.
"""

from __future__ import annotations

import asyncio
import json
import os
from importlib import resources
from typing import Any

EVERY = 0.5  # seconds between two events

_PAGE = resources.files("fdpass._cli").joinpath("demo_live.html").read_bytes()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve the page at ``/``, the event stream at ``/live/events``, the WebSocket at ``/live/socket`` (ASGI)."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    elif scope["type"] == "websocket":
        await _websocket(scope, receive, send)
    elif scope["path"] == "/live/events":
        await _events(scope, receive, send)
    elif scope["path"] == "/":
        await _answer(send, 200, b"text/html; charset=utf-8", _PAGE)
    else:
        await _answer(send, 404, b"text/plain", b"Not found\n")


async def _answer(send: Any, status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _told(scope: Any, count: int) -> str:
    """Write what a client learns with each count: which worker counts, and how often the stream was resumed."""
    return json.dumps({"count": count, "pid": os.getpid(), "resumed": scope["extensions"]["fdpass"]["resumed"]})


async def _websocket(scope: Any, receive: Any, send: Any) -> None:
    """Count the messages of a client, each one once: the count and the answer with it become true together."""
    resume = scope["extensions"]["fdpass"]["resume"]
    resume.redeliver()
    count = int(resume.state or b"0")
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        count += 1
        resume.with_next(b"%d" % count)
        await send({"type": "websocket.send", "text": _told(scope, count)})


async def _events(scope: Any, receive: Any, send: Any) -> None:
    """Send a count every half second, from the one after the client's Last-Event-ID."""
    count = int(dict(scope["headers"]).get(b"last-event-id", b"0"))
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await receive()  # the request has no body
    gone = asyncio.ensure_future(receive())
    try:
        while not (await asyncio.wait([gone], timeout=EVERY))[0]:
            count += 1
            event = f"id: {count}\ndata: {_told(scope, count)}\n\n"
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
    finally:
        gone.cancel()
