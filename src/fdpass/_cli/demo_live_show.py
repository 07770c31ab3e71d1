"""The figures and events of a run of `fdpass demo live`: clients write them, and the terminal shows them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any


class Stream:
    """What one client has seen of its connection.

    Args:
        name: For people.

    Attributes:
        count: The count that came last.
        pid: The worker that sent it; 0 before the first.
        resumed: How often another worker has continued the connection.
        wrong: How many counts did not follow the one before: something was lost, or came twice.
        broken: How often the connection ended before the run did.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = self.pid = self.resumed = self.wrong = self.broken = 0

    def note(self, told: dict[str, Any]) -> str | None:
        """Note what the application told; returns a sentence if another worker told it than before."""
        before, last = self.pid, self.count
        self.wrong += told["count"] != last + 1
        self.count, self.pid, self.resumed = told["count"], told["pid"], told["resumed"]
        if before in {0, self.pid}:
            return None
        return f"{self.name}: worker {self.pid} goes on from {last}, in the place of worker {before}"


class LiveShow:
    """The run so far.

    Args:
        url: The address of the page.
        seconds: Duration of the run.
        print_event: Is called with each new event, unless it is None.

    Attributes:
        url: See above.
        end: When the run is over (monotonic clock).
        over: Is set when the run is over.
        streams: The demonstration's own connections.
        kills: Number of killed workers.
        reloads: Number of successful reloads.
        events: The newest events, one line each.
        status: The latest status, in the form of ``fdpass status --json``.
    """

    def __init__(self, url: str, seconds: float, print_event: Callable[[str], None] | None) -> None:
        self.url = url
        self._began = time.monotonic()
        self.end = self._began + seconds
        self.over = asyncio.Event()
        self.streams = [Stream("WebSocket"), Stream("event stream")]
        self.kills = self.reloads = 0
        self.events: deque[str] = deque(maxlen=8)
        self.status: dict[str, Any] = {"workers": [], "connections": {}}
        self._print_event = print_event

    @property
    def broken(self) -> bool:
        """Whether a connection broke, or a count was lost or came twice."""
        return any(stream.broken or stream.wrong for stream in self.streams)

    def add_event(self, event: str | None) -> None:
        """Append an event, with the time since the run began; None is no event."""
        if event is None:
            return
        line = f"{time.monotonic() - self._began:5.1f} s  {event}"
        self.events.append(line)
        if self._print_event is not None:
            self._print_event(line)

    async def wait(self, seconds: float) -> bool:
        """Wait for so long, or until the run is over; returns whether it goes on."""
        try:
            await asyncio.wait_for(self.over.wait(), min(seconds, max(0.0, self.end - time.monotonic())))
        except TimeoutError:
            if time.monotonic() >= self.end:
                self.over.set()
        return not self.over.is_set()
