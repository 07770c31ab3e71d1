"""What a caller may pass as descriptors: their numbers, lent, and their end when they were given."""

from __future__ import annotations

import array
import os
from collections.abc import Iterable, Sequence
from typing import Any

from fdpass._errors import Closed, NotADescriptor


def numbers(fds: Sequence[Any]) -> array.array[int]:
    """The descriptors' numbers, lent, whatever form they have.

    Raises:
        NotADescriptor: One is neither int nor `Fd` nor has ``fileno()``.
        Closed: One is closed.
    """
    try:
        for item in fds:
            if type(item) is not int:
                return array.array("i", list(map(_number, fds)))
        return array.array("i", fds)
    except OverflowError as error:
        raise NotADescriptor("a number among the descriptors is too large to be one") from error


def _number(item: Any) -> int:
    if isinstance(item, int) and not isinstance(item, bool):
        return int(item)
    fileno = getattr(item, "fileno", None)
    if fileno is None or isinstance(item, type):
        raise NotADescriptor(f"{item!r} is no descriptor: pass an int, an Fd, or an object with fileno()")
    try:
        number = fileno()
    except ValueError as error:  # what file objects say when they are closed
        raise Closed(f"{item!r} is closed") from error
    if type(number) is not int:
        raise NotADescriptor(f"fileno() of {item!r} gave {number!r}, which is no descriptor")
    if number < 0:  # what sockets say when they are closed
        raise Closed(f"{item!r} is closed")
    return number


def listed(fds: Iterable[Any]) -> Sequence[Any]:
    """``fds`` as a sequence, refusing what only looks like a sequence of descriptors.

    Raises:
        NotADescriptor: It is one descriptor, bytes, or not iterable.
    """
    if type(fds) is tuple or type(fds) is list:
        return fds
    if (
        isinstance(fds, str | bytes | bytearray | memoryview)
        or not hasattr(fds, "__iter__")
        or hasattr(fds, "fileno")
    ):
        raise NotADescriptor(f"fds is a sequence of descriptors, not {fds!r}")
    return tuple(fds)


def close_given(items: Iterable[Any]) -> None:
    """Close what was given, each once, now that the kernel has it."""
    for item in dict.fromkeys(items):
        if isinstance(item, int):
            os.close(item)
        else:
            item.close()


def check_givable(items: Iterable[Any]) -> None:
    """Giving closes: refuse beforehand what cannot be closed.

    Raises:
        NotADescriptor: One has ``fileno()``, but no ``close()``.
    """
    for item in items:
        if not isinstance(item, int) and not hasattr(item, "close"):
            raise NotADescriptor(f"{item!r} cannot be given, for it has no close(): lend it, or give its number")
