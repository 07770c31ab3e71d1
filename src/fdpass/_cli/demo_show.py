"""The figures and events of a run of `fdpass demo serve`: clients write them, and the picture shows them."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any


class Figures:
    """What the clients of one server have seen so far.

    Args:
        name: The server's name.

    Attributes:
        requests: Number of requests with a correct answer.
        errors: Number of errors of each kind.
        reconnects: How often a client that keeps its connection had to open another one.
        worst: The longest wait for an answer, in seconds.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = self.reconnects = 0
        self.errors: Counter[str] = Counter()
        self.worst = 0.0

    @property
    def wrong(self) -> int:
        """Number of errors of all kinds."""
        return sum(self.errors.values())


class Show:
    """The figures and events so far.

    Args:
        seconds: Duration of the run.
        against: The name of the server that is compared with fdpass; "" for none.

    Attributes:
        began: When the run began (monotonic clock).
        end: When the run is over.
        ours: The figures of fdpass.
        theirs: The figures of the other server, if there is one.
        kills: Number of killed workers, of each server.
        reloads: Number of successful reloads, of each server.
        events: The newest events, one line each.
        status: The latest status, in the form of ``fdpass status --json``.
    """

    def __init__(self, seconds: float, against: str = "") -> None:
        self.began = time.monotonic()
        self.end = self.began + seconds
        self.ours = Figures("fdpass")
        self.theirs = Figures(against) if against else None
        self.kills = self.reloads = 0
        self.events: deque[str] = deque(maxlen=6)
        self.status: dict[str, Any] = {"workers": [], "connections": {}}

    @property
    def sides(self) -> list[Figures]:
        """The figures of each server."""
        return [self.ours] if self.theirs is None else [self.ours, self.theirs]

    @property
    def over(self) -> bool:
        """Whether the run is over."""
        return time.monotonic() >= self.end

    def add_event(self, event: str) -> None:
        """Append an event, with the time since the run began."""
        self.events.append(f"{time.monotonic() - self.began:5.1f} s  {event}")
