"""The figures and events of a run of `fdpass demo serve`: clients write them, and the picture shows them."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any


class Show:
    """The figures and events so far.

    Args:
        seconds: Duration of the run.

    Attributes:
        began: When the run began (monotonic clock).
        end: When the run is over.
        requests: Number of requests with a correct answer.
        errors: Number of errors of each kind.
        reconnects: How often a client that keeps its connection had to open another one.
        worst: The longest wait for an answer, in seconds.
        kills: Number of killed workers.
        reloads: Number of successful reloads.
        events: The newest events, one line each.
        status: The latest status, in the form of ``fdpass status --json``.
    """

    def __init__(self, seconds: float) -> None:
        self.began = time.monotonic()
        self.end = self.began + seconds
        self.requests = self.reconnects = self.kills = self.reloads = 0
        self.errors: Counter[str] = Counter()
        self.worst = 0.0
        self.events: deque[str] = deque(maxlen=6)
        self.status: dict[str, Any] = {"workers": [], "connections": {}}

    @property
    def over(self) -> bool:
        """Whether the run is over."""
        return time.monotonic() >= self.end

    def add_event(self, event: str) -> None:
        """Append an event, with the time since the run began."""
        self.events.append(f"{time.monotonic() - self.began:5.1f} s  {event}")
