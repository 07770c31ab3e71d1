"""The application of kill_storm.py: it answers each request with the request's own token, many times.

`GET /t/TOKEN-COUNT-NAP` sleeps for NAP ms, then answers the token COUNT times. `POST` to the same path first
appends the token to the file that $STORM_FILE names, so that the file has every executed request, even if its
answer is lost. Other paths are those of serve_app.py.
"""

from __future__ import annotations

import asyncio
import os

from serve_app import Message, Receive, Send, answer
from serve_app import app as others

LEDGER = os.environ.get("STORM_FILE", "")
WRITTEN = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if LEDGER else -1


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http" or not scope["path"].startswith("/t/"):
        await others(scope, receive, send)
        return
    token, count, nap = scope["path"][3:].split("-")
    if scope["method"] == "POST":
        token = (await whole(receive)).decode()
        os.write(WRITTEN, f"{token}\n".encode())
    if nap != "0":
        await asyncio.sleep(int(nap) / 1000)
    await answer(send, token.encode() * int(count))


async def whole(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body
