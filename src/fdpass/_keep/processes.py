"""`is_descendant`: whether a process was started by this one, or by a process that this one started."""

from __future__ import annotations

import os

_DEEPEST = 100


def is_descendant(pid: int) -> bool:
    """Whether the chain of parents of a process leads to this one. False if the process has ended."""
    own = os.getpid()
    for _ in range(_DEEPEST):
        pid = _parent(pid)
        if pid in {0, own}:
            break
    return pid == own


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])  # the name before ")" may contain anything
    except (OSError, IndexError):
        return 0
