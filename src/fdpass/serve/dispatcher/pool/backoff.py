"""Starts that fail are tried again, ever less often."""

from __future__ import annotations

from collections.abc import Callable

from fdpass.serve.dispatcher.loop import Loop, Timer

_FIRST, _MOST = 0.1, 5.0  # seconds


class Backoff:
    """When to try again.

    Args:
        loop: Where to wait.
        again: Called when the time has come.
    """

    def __init__(self, loop: Loop, again: Callable[[], None]) -> None:
        self._loop = loop
        self._again = again
        self._seconds = _FIRST
        self._timer: Timer | None = None

    @property
    def waiting(self) -> bool:
        """Nothing is to be tried now."""
        return self._timer is not None

    def failed(self) -> float:
        """It did not work: the seconds until it is tried again."""
        seconds = self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._try)
            self._seconds = min(2 * seconds, _MOST)
        return seconds

    def succeeded(self) -> None:
        """It worked: the next failure is a first one."""
        self._seconds = _FIRST

    def cancel(self) -> None:
        """Do not try again."""
        if self._timer is not None:
            self._timer.cancel()

    def _try(self) -> None:
        self._timer = None
        self._again()
