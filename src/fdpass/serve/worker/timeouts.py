"""`Timeouts`: many timers of the same length for little more than the price of one.

A connection that is kept alive sets one after each response, and seldom does one run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_LATE = 0.05  # seconds that they may take longer, so that those of nearly the same time are done in one go


class Timeout:
    """One of them."""

    __slots__ = ("_all", "call")

    def __init__(self, every: dict[Timeout, float], call: Callable[[], object]) -> None:
        self._all = every
        self.call = call

    def cancel(self) -> None:
        """It shall not run out. Twice, or too late, does nothing."""
        self._all.pop(self, None)


class Timeouts:
    """All of them.

    Args:
        loop: The running loop.
        seconds: How long each takes.

    Attributes:
        seconds: See above.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._time = loop.time
        self.seconds = seconds
        self._due: dict[Timeout, float] = {}  # the first to run out is first
        self._armed = False

    def start(self, call: Callable[[], object]) -> Timeout:
        """Call this when the time is over."""
        timeout = Timeout(self._due, call)
        due = self._due[timeout] = self._time() + self.seconds
        if not self._armed:
            self._arm(due)
        return timeout

    def _arm(self, due: float) -> None:
        self._armed = True
        self._loop.call_at(due + _LATE, self._expire)

    def _expire(self) -> None:
        now = self._time()
        for timeout, due in list(self._due.items()):
            if due > now:
                break
            if self._due.pop(timeout, None) is not None:  # else one before it has cancelled this
                timeout.call()  # which may start others: they are armed below
        self._armed = False
        if self._due:
            self._arm(next(iter(self._due.values())))
