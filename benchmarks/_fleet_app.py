"""The application on the hosts of a fleet. It writes down each request before it executes it.

`/` answers the name of the host and the query. `/wait` answers once the file `release` exists. `/hold` is an event
stream that says the name of the host, and stays open.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HOST = os.environ.get("FLEET_HOST", "")
FOLDER = Path(os.environ.get("FLEET_FOLDER", "."))
LOOK_AGAIN = 0.02  # seconds between two looks at the file `release`
WORK = 0.005  # seconds that each POST takes


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    query = scope["query_string"].decode()
    note(f"{scope['method']} {query} {scope['client'][0]} {time.monotonic()}\n")
    if scope["path"] == "/hold":
        await hold(receive, send)
        return
    if scope["path"] == "/wait":
        while not (FOLDER / "release").exists():  # noqa: ASYNC110 - the event is in another process
            await asyncio.sleep(LOOK_AGAIN)
    elif scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
        await asyncio.sleep(WORK)
    body = f"{HOST} {query}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def note(line: str) -> None:
    """Append a line with one write(2): it is whole or not there, and outlives this process."""
    fd = os.open(FOLDER / f"executed-{HOST}", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(fd, line.encode())
    os.close(fd)


async def hold(receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": f"data: {HOST}\n\n".encode(), "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
