"""`Spread`: when a retiring worker tells each of its clients to go, so that not all come back at once. Pure."""

from __future__ import annotations


class Spread:
    """Divides the time of a retiring worker evenly among the clients that it has to tell to go.

    With n clients the first one is told after 1/n of the time, and the last one at its end. If clients leave by
    themselves or come, the rest of the time is divided among those that are left.

    Args:
        now: The present time.
        seconds: The time to divide.
        left: How many clients there are.
    """

    def __init__(self, now: float, seconds: float, left: int) -> None:
        self._end = now + seconds
        self._last = now  # when the last client was told
        self._left = left

    def due(self, now: float, left: int) -> int:
        """How many clients have to be told now, of so many that are left and were not told."""
        if left > self._left:  # for new ones only the rest of the time can be divided
            self._last = max(self._last, now - (self._end - now) / left)
        count = 0
        while count < left and self._last + self._step(left - count) <= now:
            self._last += self._step(left - count)
            count += 1
        self._left = left - count
        return count

    def _step(self, left: int) -> float:
        return (self._end - self._last) / left
