"""What outlives the dispatcher: memory that the first one makes, and objects that each one stores."""

from __future__ import annotations

import json
import os
from typing import Any

from fdpass._fd import Fd
from fdpass._memory import common, share
from fdpass.serve.keeper.estate import Estate, Head


def lasting(estate: Estate, word: Head, size: int, name: str) -> Fd:
    """Find the memory whose descriptor a word of the estate has, or make it.

    Args:
        estate: The estate.
        word: Where the descriptor is.
        size: Bytes of a new memory.
        name: As for `common`.

    Returns:
        The descriptor; you own it, and close it only when the server ends.

    Raises:
        CallFailed: The memory cannot be made.
    """
    if estate.head[word]:
        return Fd(estate.head[word] - 1)
    memory = common(size, name=name)
    estate.head[word] = memory.fileno() + 1
    return memory


def store(estate: Estate, word: Head, value: Any, name: str) -> None:
    """Store an object in the place of what a word of the estate names: a reader finds the one or the other.

    Args:
        estate: The estate.
        word: Where the descriptor is.
        value: What JSON can write.
        name: As for `share`.
    """
    head = estate.head
    before, head[word] = head[word], share(json.dumps(value).encode(), name=name).take() + 1
    if before:
        os.close(before - 1)


def stored(estate: Estate, word: Head) -> Any:
    """Read what `store` has stored, though another process may store meanwhile; None if there is nothing."""
    while True:
        number = estate.take_fd(word)
        try:
            found = None if number < 0 else json.loads(os.pread(number, os.fstat(number).st_size, 0))
        except (OSError, ValueError):
            if number == estate.take_fd(word):
                raise
        else:
            if number == estate.take_fd(word):
                return found
