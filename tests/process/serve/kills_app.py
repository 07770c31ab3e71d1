"""The application of the test of random kills: notes what it executes, and answers what the client can foretell.

`app` answers HTTP requests as their path says, `handle` lines; each with its token. See `_kill_plans`, which knows
the answers too. Each line of the file ``executed`` is a token, an attempt and a process number.
"""

import asyncio
import os
import struct
import sys
import time
import zlib
from urllib.parse import parse_qs

from countdown import happens

STATE = struct.Struct("=QI")
LENGTHS = {"/large": 200_000, "/huge": 5_000_000}
STREAM_PARTS = 12
FORK_SECONDS = 60


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    query = parse_qs(scope["query_string"].decode())
    token, path = query.get("token", ["-"])[0], scope["path"]
    note(token, scope["extensions"]["fdpass"]["attempt"])
    happens("call")
    body = b"" if path == "/unread" else await whole(receive)
    if path == "/late":
        await asyncio.sleep(0.003)
    if path == "/fork":
        fork(token)
    client = "{}:{}".format(*scope["client"]) if "who" in query else "-"
    echo = dict(scope["headers"]).get(b"x-echo", b"")
    told = f"{scope['method']} {token} {len(body)} {zlib.crc32(body)} {client}\n".encode() + echo
    await respond(path, token, told, send)


async def respond(path, token, told, send):
    if path in {"/stream", "/fork"}:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(STREAM_PARTS):
            await send({"type": "http.response.body", "body": told, "more_body": True})
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": b""})
        return
    status = {"/unread": 413, "/204": 204}.get(path, 200)
    data = (token.encode() * LENGTHS[path])[: LENGTHS[path]] if path in LENGTHS else told
    data = b"" if path == "/204" else data
    length = [] if path == "/204" else [(b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": status, "headers": length})
    await send({"type": "http.response.body", "body": data})


async def handle(conn):
    """Lines ``TOKEN WHAT PADDING``: each is answered with its number, the sum of all so far, and its token."""
    happens("call")
    count, total = STATE.unpack(conn.state) if conn.state else (0, 0)
    while line := await conn.readline():
        happens("call")
        token, what, *_ = *line.decode().split(), "", ""
        note(token, conn.attempt)
        count, total = count + 1, zlib.crc32(line, total)
        reply = f"{count} {total:08x} {token}\n".encode()
        if what == "late":
            await asyncio.sleep(0.003)
        if what == "halves":
            await conn.write(reply[:5])
            reply = reply[5:]
        if what == "large":
            reply = reply * 5000
        await conn.commit(STATE.pack(count, total), reply)
        if what == "move":
            await conn.move()


async def whole(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def fork(token):
    """A child that holds all that this worker has, until the scenario is over."""
    if os.fork() == 0:
        sys.settrace(None)
        end = time.monotonic() + FORK_SECONDS
        while not os.path.exists(token.split(".")[0] + ".over") and time.monotonic() < end:
            time.sleep(0.02)
        os._exit(0)


def note(token, attempt):
    with open("executed", "ab", 0) as file:
        file.write(f"{token} {attempt} {os.getpid()}\n".encode())
