"""The application of the tests of custody: it notes each request that it executes, and does what the path says.

/            answers
/wait        waits for ever at the first attempt
/always      waits for ever at each
/gate        answers once there is a file of the name in its query's ``token``, with ``.open`` behind it
/later       answers after 50 ms in its loop: what was to come before has come by then
/stream      sends a head and a part of a body, and waits for ever
/large       answers with 200,000 bytes, made of the token
/huge        the same, with 16 million: more than kernel and client take
/unread      answers 413, and does not read the body
/body        as /, but notes before it reads the body
/204         answers without a body
/block       blocks the event loop at the first attempt
/sse         see ``app.py``; a WebSocket likewise

It answers with JSON. Each line of the file ``executed`` is a token, an attempt and a process number.
"""

import asyncio
import json
import os
import time
from urllib.parse import parse_qs

import app as plain

LARGE = {"/large": 200_000, "/huge": 16_000_000}


async def app(scope, receive, send):
    path = scope["path"]
    if scope["type"] != "http" or path == "/sse":
        await plain.app(scope, receive, send)
        return
    token = parse_qs(scope["query_string"].decode()).get("token", ["-"])[0]
    attempt = scope["extensions"]["fdpass"]["attempt"] if "fdpass" in scope.get("extensions", {}) else 0
    if path == "/body":
        note(token, attempt)
    body = b"" if path == "/unread" else await whole(receive)
    if path != "/body":
        note(token, attempt)
    if path == "/block" and attempt == 0:
        time.sleep(3600)
    if path == "/always" or (path == "/wait" and attempt == 0):
        await asyncio.Event().wait()
    if path == "/later":
        await asyncio.sleep(0.05)
    while path == "/gate" and not os.path.exists(token + ".open"):
        await asyncio.sleep(0.005)
    told = {
        "token": token,
        "pid": os.getpid(),
        "attempt": attempt,
        "method": scope["method"],
        "client": scope["client"],
        "length": len(body),
        "same": body == body[:1] * len(body),
    }
    await respond(path, token, told, send)


async def respond(path, token, told, send):
    status = {"/unread": 413, "/204": 204}.get(path, 200)
    data = b"" if path == "/204" else json.dumps(told).encode()
    if path in LARGE:
        data = (token.encode() * LARGE[path])[: LARGE[path]]
    length = () if path in {"/stream", "/204"} else ((b"content-length", b"%d" % len(data)),)
    await send({"type": "http.response.start", "status": status, "headers": list(length)})
    if path == "/stream":
        await send({"type": "http.response.body", "body": b"part of it", "more_body": True})
        await asyncio.Event().wait()
    await send({"type": "http.response.body", "body": data})


async def whole(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


def note(token, attempt):
    with open("executed", "ab", 0) as file:
        file.write(f"{token} {attempt} {os.getpid()}\n".encode())
