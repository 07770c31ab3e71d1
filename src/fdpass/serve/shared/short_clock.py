"""The monotonic clock in 32 bits, for messages: both processes of a message read the same clock."""

from __future__ import annotations

import time

_ROUND = 4096.0  # seconds, after which it starts anew; whole numbers would take more instructions than floats


def at(seconds: float) -> int:
    """Return a time of `time.monotonic` in µs."""
    return int(seconds % _ROUND * 1e6)


def now() -> int:
    """Return the time now in µs."""
    return at(time.monotonic())


def seconds_since(then: int) -> float:
    """Return the seconds since an earlier time, if they are fewer than 68 minutes."""
    return (time.monotonic() - then / 1e6) % _ROUND
