"""`take`: lets a process show its role: by its name, and by when the kernel ends it for lack of memory."""

from __future__ import annotations

import contextlib
import ctypes

_libc = ctypes.CDLL(None)
_PR_SET_NAME = 15  # linux/prctl.h
_MOST_SCORE = 1000
_SCORE = "/proc/self/oom_score_adj"

BEHIND = 10
"""By how many thousandths of the memory a worker counts as larger than the dispatcher, and this as the keeper."""


def take(role: str, *, score: int = 0) -> None:
    """Show a role of this process.

    Args:
        role: It becomes ``fdpass-`` and this in /proc/PID/comm, of which the kernel keeps 15 bytes.
        score: Added to oom_score_adj, see proc(5). A process without privileges can raise its score, and lower it
            again as far as a privileged process has set it.
    """
    _libc.prctl(_PR_SET_NAME, f"fdpass-{role}".encode()[:15], 0, 0, 0)
    if score:
        with contextlib.suppress(OSError, ValueError), open(_SCORE, "r+", encoding="ascii") as file:
            value = min(_MOST_SCORE, int(file.read()) + score)
            file.seek(0)
            file.write(str(value))
