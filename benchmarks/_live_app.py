"""The application of live_storm.py: WebSockets and event streams with numbered messages, below `/live/`.

`/live/KIND/NAME` is a WebSocket of the connection NAME: see `KINDS`. A message is `NUMBER:REST`. The application
appends a line `NAME NUMBER` to the file that $STORM_FILE names before it does anything else with a message, so the
file has every delivery. `/live/events/NAME` and `/live/halves/NAME` are event streams whose ids count from 1, or
on from Last-Event-ID; the second sends each event in two parts. `/plain/...` is the same, and is not resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from _storm_app import WRITTEN
from _storm_app import app as others
from serve_app import Message, Receive, Send, start

EVERY = 0.1  # seconds between two messages of a feed, and between two events


def note(name: str, number: int, what: str = "") -> None:
    if WRITTEN >= 0:
        os.write(WRITTEN, f"{name} {number}{what}\n".encode())


async def messages(name: str, receive: Receive) -> AsyncIterator[tuple[int, Message]]:
    """The numbered messages of a connection, which is then accepted, up to its end."""
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.receive":
            data = message.get("text") or message["bytes"]
            number = int(data.partition(":" if isinstance(data, str) else b":")[0])
            note(name, number)
            yield number, message


async def reply(send: Send, message: Message) -> None:
    await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


async def say(send: Send, text: str) -> None:
    await send({"type": "websocket.send", "text": text})


async def echo(name: str, receive: Receive, send: Send, resume: Any) -> None:  # noqa: ARG001
    """The same back: no word about resuming."""
    async for _, message in messages(name, receive):
        await reply(send, message)


async def again(name: str, receive: Receive, send: Send, resume: Any) -> None:
    """The same back; messages may come again."""
    resume.redeliver()
    async for _, message in messages(name, receive):
        await reply(send, message)


async def once(name: str, receive: Receive, send: Send, resume: Any) -> None:
    """The number before by the state, and the same back: once for each message."""
    resume.redeliver()
    last = int(resume.state or b"0")
    async for number, message in messages(name, receive):
        resume.with_next(b"%d" % number)
        await say(send, f"{last}>{message['text']}")
        last = number


async def commit(name: str, receive: Receive, send: Send, resume: Any) -> None:
    """The same back behind a commit; a resumed connection is first told what was committed."""
    resume.redeliver()
    last = int(resume.state or b"0")
    if last:
        await say(send, f"{last}:committed")
    async for number, message in messages(name, receive):
        if number <= last:
            note(name, number, " behind its commit")
        resume.commit(b"%d" % number)
        last = number
        await reply(send, message)


async def feed(name: str, receive: Receive, send: Send, resume: Any) -> None:  # noqa: ARG001
    """Numbers from 1 on, unasked."""

    async def count() -> None:
        number = int(resume.state or b"0")
        with contextlib.suppress(OSError):  # the connection has gone
            while True:
                number += 1
                resume.with_next(b"%d" % number)
                await say(send, f"{number}:fed")
                await asyncio.sleep(EVERY)

    counting = asyncio.create_task(count())
    while (await receive())["type"] != "websocket.disconnect":
        pass
    counting.cancel()


async def much(name: str, receive: Receive, send: Send, resume: Any) -> None:  # noqa: ARG001
    """For `N:COUNT:SIZE` COUNT frames of SIZE characters, which begin with 0, 1 and so on."""
    async for _, message in messages(name, receive):
        _, count, size = message["text"].split(":")
        for number in range(int(count)):
            await say(send, f"{number}:".ljust(int(size), "x"))


async def held(name: str, receive: Receive, send: Send, resume: Any) -> None:  # noqa: ARG001
    """The pid for each message, of which no file has a line."""
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.receive":
            await say(send, f"{os.getpid():07d}")


KINDS = {"echo": echo, "again": again, "once": once, "commit": commit, "feed": feed, "much": much, "held": held}


async def events(scope: Message, receive: Receive, send: Send, parts: int) -> None:
    headers = dict(scope["headers"])
    await start(send, 200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")])

    async def count() -> None:
        number = int(headers.get(b"last-event-id", b"0"))
        while True:
            number += 1
            event = b"id: %d\ndata: event %d\n\n" % (number, number)
            size = -(-len(event) // parts)
            for place in range(0, len(event), size):
                body = event[place : place + size]
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await asyncio.sleep(EVERY / parts)

    counting = asyncio.create_task(count())
    while (await receive())["type"] != "http.disconnect":
        pass
    counting.cancel()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    _, where, kind, name = ("", *scope.get("path", "").split("/"), "", "", "")[1:5]
    if where not in {"live", "plain"}:
        await others(scope, receive, send)
    elif scope["type"] == "http":
        await events(scope, receive, send, 2 if kind == "halves" else 1)
    else:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        resume = scope.get("extensions", {}).get("fdpass", {}).get("resume")
        await KINDS[kind](name, receive, send, resume)
