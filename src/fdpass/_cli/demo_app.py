"""The application of `fdpass demo serve`: it answers with its worker's PID and the request's token."""

from __future__ import annotations

import asyncio
import os
from typing import Any

_SECONDS = 0.003  # duration of a request, so that kills hit requests in progress


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer each request (ASGI)."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await asyncio.sleep(_SECONDS)
    body = b"%d %b" % (os.getpid(), scope["query_string"])
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
