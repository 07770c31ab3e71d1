"""`Backoff`: when a start that failed is tried again: after 0.1 s, then twice as long each time, up to 5 s."""

from __future__ import annotations

from collections.abc import Callable

from fdpass._supervision.loop import Loop, Timer

_FIRST, _LONGEST = 0.1, 5.0  # seconds


class Backoff:
    """Waits before the next try.

    Args:
        loop: Event loop that waits.
        retry: Called when the time has come.
    """

    def __init__(self, loop: Loop, retry: Callable[[], None]) -> None:
        self._loop = loop
        self._retry = retry
        self._seconds = _FIRST
        self._timer: Timer | None = None

    @property
    def waiting(self) -> bool:
        """Whether a retry is due later: nothing must be tried before."""
        return self._timer is not None

    def failed(self) -> float:
        """A try failed. Returns the seconds until the next."""
        seconds = self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(seconds, self._on_timer)
            self._seconds = min(2 * seconds, _LONGEST)
        return seconds

    def succeeded(self) -> None:
        """A try succeeded: the wait after the next failure is the shortest again."""
        self._seconds = _FIRST

    def cancel(self) -> None:
        """Do not try again."""
        if self._timer is not None:
            self._timer.cancel()

    def skip(self) -> None:
        """Do not wait any more: the caller tries now."""
        self.cancel()
        self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self._retry()
