"""`Fullness`: logs, now and then, that the server has as many connections as it may have."""

from __future__ import annotations

import logging
import time

from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")

_QUIET_SECONDS = 60.0  # between two lines


class Fullness:
    """Looks at the number of connections.

    Args:
        connections: All connections. Lent.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._logged_at = -_QUIET_SECONDS

    def check(self, requests: int) -> None:
        """Log it, if no more connections may be open; ``requests`` are in progress."""
        live, now = self._connections.live, time.monotonic()
        if live >= self._connections.most and now >= self._logged_at + _QUIET_SECONDS:
            self._logged_at = now
            log.warning(
                "%d connections are open, the most there may be, and %d of them are idle; others wait",
                live,
                max(0, live - requests),
                extra=about(Event.CONNECTIONS_FULL),
            )
