"""`Farewells`: clients of WebSockets and event streams that end with a retiring worker are told so one by one."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from fdpass._words import counted
from fdpass.serve.worker.live.spread import Spread
from fdpass.serve.worker.live.uvicorn_class import is_open
from fdpass.serve.worker.request_count import RequestCount

log = logging.getLogger("fdpass.serve")


class Farewells:
    """All clients that have to go, because no other worker can continue their stream.

    A client is told in a moment in which it has all that was sent so far. So an event stream ends between two
    events, if the application sends whole events.

    Args:
        websockets: uvicorn's protocols of all WebSockets. Lent, and read again and again.
        connections: The protocols of all HTTP connections, likewise.
        count: Of the worker.
        now: The present time.
        seconds: The time after which all have to be gone.
    """

    def __init__(
        self,
        websockets: Collection[Any],
        connections: Collection[Any],
        count: RequestCount,
        now: float,
        seconds: float,
    ) -> None:
        self._count = count
        self._websockets = websockets
        self._connections = connections
        self._told: set[Any] = set()  # WebSockets whose clients have not ended the connection yet
        sockets, streams = self._left()
        self._spread = Spread(now, seconds, len(sockets) + len(streams))
        if sockets or streams:
            kinds = ((len(sockets), "WebSocket"), (len(streams), "event stream"))
            clients = " and ".join(counted(number, kind) for number, kind in kinds if number)
            log.info("ending %s one by one within %g s (--graceful-timeout)", clients, seconds)

    def look(self, now: float) -> None:
        """Tell those whose time has come."""
        sockets, streams = self._left()
        due = self._spread.due(now, len(sockets) + len(streams))
        if not due:
            return
        self._told.intersection_update(self._websockets)
        for websocket in [each for each in sockets if each.transport.quiet][:due]:
            self._told.add(websocket)
            end(websocket, self._count)
            due -= 1
        for connection in [each for each in streams if each.wire.quiet][:due]:
            connection.end_events()

    def _left(self) -> tuple[list[Any], list[Any]]:
        told = self._told
        sockets = [each for each in self._websockets if not (each in told or each.transport.is_resumable)]
        return [each for each in sockets if is_open(each)], [each for each in self._connections if each.has_events]


def end(websocket: Any, count: RequestCount) -> None:
    """End a WebSocket with code 1012 (service restart). The client can read that though it still sends."""
    transport = websocket.transport
    if transport.is_closing():
        return
    if is_open(websocket):
        transport.linger()
        count.told += 1
    try:
        websocket.shutdown()
    except Exception:
        log.debug("a WebSocket could not be told to connect again", exc_info=True)
        transport.close()
