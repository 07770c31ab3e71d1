"""What has happened in a run of `fdpass demo serve`: the clients write it, the picture shows it."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any


class Show:
    """What has happened so far.

    Attributes:
        requests: Answers that were right, byte for byte.
        errors: Of each kind, how many.
        reconnects: How often a client that keeps its connection had to open another.
        worst: The longest wait for an answer, in seconds.
        kills: Workers killed.
        reloads: Reloads done.
        events: The newest, for people.
        status: As ``fdpass status --json`` has it.
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
        """The time is up."""
        return time.monotonic() >= self.end

    def tell(self, event: str) -> None:
        """Something happened."""
        self.events.append(f"{time.monotonic() - self.began:5.1f} s  {event}")
