"""The clients of `fdpass demo live`: a WebSocket and an event stream, which never connect a second time."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator

from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from fdpass._cli.demo_live_app import EVERY
from fdpass._cli.demo_live_show import LiveShow, Stream

_PATIENCE = 15.0  # seconds that a client waits for the next count
_FAILURES = (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError, WebSocketException)


async def play_websocket(show: LiveShow, stream: Stream, address: tuple[str, int]) -> None:
    """Send a message every half second, and check the answer's count."""
    try:
        sock = socket.create_connection(address, _PATIENCE)  # a socket of our own: no proxy of the environment
        sock.setblocking(False)
        async with connect(f"ws://{address[0]}:{address[1]}/live/socket", sock=sock) as websocket:
            while await show.wait(EVERY):
                await websocket.send("count this message")
                show.add_event(stream.note(json.loads(await asyncio.wait_for(websocket.recv(), _PATIENCE))))
    except _FAILURES as error:
        _note_end(show, stream, error)


async def play_events(show: LiveShow, stream: Stream, address: tuple[str, int]) -> None:
    """Read an event stream, and check each count."""
    try:
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(b"GET /live/events HTTP/1.1\r\nHost: demo\r\nAccept: text/event-stream\r\n\r\n")
            async for event in _events(reader):
                if show.over.is_set():
                    return
                show.add_event(stream.note(json.loads(event)))
            raise EOFError("the stream has ended")
        finally:
            writer.close()
    except _FAILURES as error:
        _note_end(show, stream, error)


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """The data of each event: the application sends each one as one chunk, and in one line."""
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"a wrong response: {head!r}")
    while True:
        async with asyncio.timeout(_PATIENCE):
            size = int(await reader.readline(), 16)
            chunk = await reader.readexactly(size + 2)
        if not size:
            return
        yield chunk.decode().partition("data: ")[2].strip()


def _note_end(show: LiveShow, stream: Stream, error: BaseException) -> None:
    stream.broken += 1  # at the end of the run, too: the clients end before the server
    show.add_event(f"{stream.name}: the connection broke: {str(error) or type(error).__name__}")
    if all(each.broken for each in show.streams):
        show.over.set()
