"""The descriptors that a caller passes in: reading their numbers (lent), and closing them (given)."""

from __future__ import annotations

import array
import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

from fdpass._errors import Closed, NotADescriptor


def numbers(fds: Sequence[Any]) -> array.array[int]:
    """The numbers, lent, of descriptors in any form: int, `Fd`, or object with ``fileno()``.

    Raises:
        NotADescriptor: An item has none of these forms.
        Closed: An item is closed.
    """
    try:
        for item in fds:
            if type(item) is not int:
                return array.array("i", list(map(_number, fds)))
        return array.array("i", fds)
    except OverflowError as error:
        raise NotADescriptor("one of the numbers is too large for a descriptor: the most is 2**31 - 1") from error


def _number(item: Any) -> int:
    if isinstance(item, int) and not isinstance(item, bool):
        return int(item)
    fileno = getattr(item, "fileno", None)
    if fileno is None or isinstance(item, type):
        raise NotADescriptor(f"{item!r} is no descriptor: pass an int, an Fd, or an object with fileno()")
    try:
        number = fileno()
    except ValueError as error:  # raised by a closed file object
        raise Closed(f"{item!r} is closed: pass an open descriptor") from error
    if type(number) is not int:
        raise NotADescriptor(f"fileno() of {item!r} returned {number!r}, which is no descriptor")
    if number < 0:  # returned by a closed socket
        raise Closed(f"{item!r} is closed: pass an open descriptor")
    return number


def as_sequence(fds: Iterable[Any]) -> Sequence[Any]:
    """``fds`` as a sequence of descriptors.

    Raises:
        NotADescriptor: ``fds`` is a single descriptor, text or bytes, or not iterable.
    """
    if type(fds) is tuple or type(fds) is list:
        return fds
    if (
        isinstance(fds, str | bytes | bytearray | memoryview)
        or not hasattr(fds, "__iter__")
        or hasattr(fds, "fileno")
    ):
        raise NotADescriptor(f"fds must be a sequence of descriptors, such as a list, not {fds!r}")
    return tuple(fds)


def close_given(items: Iterable[Any]) -> None:
    """Close the descriptors that were given, each once, after the kernel took them.

    All are closed, even if closing one of them fails; then the failure is raised.
    """
    # An object need not be hashable; equal ints are one descriptor.
    once = {(int, item) if isinstance(item, int) else (object, id(item)): item for item in items}
    with contextlib.ExitStack() as stack:
        for item in once.values():
            if isinstance(item, int):
                stack.callback(os.close, item)
            else:
                stack.callback(item.close)


def check_givable(items: Iterable[Any]) -> None:
    """Check before the send that the descriptors can be closed after it.

    Raises:
        NotADescriptor: An item has ``fileno()``, but no ``close()``.
    """
    for item in items:
        if not isinstance(item, int) and not hasattr(item, "close"):
            raise NotADescriptor(f"{item!r} cannot be given, for it has no close(): lend it, or give its number")
