"""The live stream of the page: server-sent events, one for each snapshot, for as long as the client stays."""

from __future__ import annotations

import asyncio
import json

from fdpass._dashboard.http import Receive, Refused, Send, start
from fdpass._dashboard.watch import Watch

MOST_STREAMS = 100
"""How many clients can look at once."""

_HEADERS = {
    "content-type": "text/event-stream",
    "x-accel-buffering": "no",  # nginx would hold the events back
}


class Streams:
    """Sends the history and then each snapshot to every client.

    A client that reads slowly misses snapshots, and holds up no other: its next event is the newest snapshot.

    Args:
        watch: The source of the snapshots.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._open = 0

    async def send_to(self, receive: Receive, send: Send) -> None:
        """Send until the client disconnects or the dashboard ends.

        Raises:
            Refused: Too many clients look.
        """
        if self._open >= MOST_STREAMS:
            raise Refused(503, f"{MOST_STREAMS} clients look at this dashboard already")
        self._open += 1
        tasks = [asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_disconnected(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open -= 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await start(send, 200, _HEADERS)
        await send(_event("history", await self._watch.history()))
        seen = {server.name: 0 for server in self._watch.servers}
        async for snapshot in self._watch.snapshots():
            await send(_event("snapshot", snapshot.json))
            for server in self._watch.servers:
                if events := server.events_after(seen[server.name]):
                    seen[server.name] = events[-1]["number"]
                    await send(_event("events", json.dumps({"server": server.name, "events": events}).encode()))
        await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(name: str, data: bytes) -> dict[str, object]:
    body = b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
    return {"type": "http.response.body", "body": body, "more_body": True}
