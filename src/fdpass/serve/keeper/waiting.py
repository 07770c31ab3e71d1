"""Waiting for signals that are blocked."""

from __future__ import annotations

import ctypes
from collections.abc import Collection

_SET_BYTES = 128  # sigset_t of glibc and musl
_libc = ctypes.PyDLL(None)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def wait_for_signal(signals: Collection[int], seconds: float) -> int:
    """Wait for one of these signals, which are blocked, and consume it.

    This is sigtimedwait(2), without a fault of CPython's: the call ends without a signal when the process goes on
    after a stop (SIGCONT), see signal(7). If the time is over by then, `signal.sigtimedwait` of CPython 3.11
    returns what its memory had before: any signal.

    Args:
        signals: The signals.
        seconds: How long to wait; below 0 as 0.

    Returns:
        The number of the signal; 0 if none has come.
    """
    words = [0] * (_SET_BYTES // 8)  # unsigned long
    for number in signals:
        words[(number - 1) // 64] |= 1 << (number - 1) % 64
    mask = (ctypes.c_uint64 * len(words))(*words)
    whole, part = divmod(max(0.0, seconds), 1)
    found: int = _libc.sigtimedwait(mask, None, ctypes.byref(_Timespec(int(whole), int(part * 1e9))))
    return max(0, found)


def forget(signals: Collection[int]) -> None:
    """Consume the signals that have come: once they are unblocked, most of them would kill the process."""
    while wait_for_signal(signals, 0):
        pass
