"""`IdleTimer`: ends things that were idle for too long. One timer of the loop serves all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any

_LATE = 0.1  # seconds that a thing may stay longer, so that many are ended in one go


class IdleTimer:
    """Things that are idle, each with the time since when.

    Args:
        loop: The running loop.
        seconds: How long a thing may be idle.
        end: Called with a thing that was idle for that long, and that is forgotten here. May call `add`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, end: Callable[[Any], None]) -> None:
        self._loop = loop
        self._time = loop.time
        self._seconds = seconds
        self._end = end
        self._since: dict[Hashable, float] = {}  # the first to come is first
        self._armed = False

    def add(self, thing: Hashable) -> None:
        """The thing is idle from now on."""
        self.add_at(thing, self._time())

    def add_at(self, thing: Hashable, now: float) -> None:
        """The thing is idle from now on: a time of `time.monotonic`, which is the clock of every event loop."""
        self._since[thing] = now
        if not self._armed:
            self._armed = True
            self._loop.call_later(self._seconds + _LATE, self._expire)

    def discard(self, thing: Hashable) -> None:
        """The thing is not idle any more, or it has ended."""
        self._since.pop(thing, None)

    def _expire(self) -> None:
        self._armed = False
        last = self._time() - self._seconds
        for thing, since in list(self._since.items()):
            if since > last:
                self._armed = True
                self._loop.call_at(since + self._seconds + _LATE, self._expire)
                return
            if self._since.pop(thing, None) is not None:  # else the end of one before has discarded this one
                self._end(thing)
