"""The descriptors that a caller passes in: reading their numbers (lent), and closing them (given)."""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fdpass._errors import Closed, InvalidMessage, NotADescriptor

if TYPE_CHECKING:
    from typing_extensions import Buffer  # type checkers know this module without the package

    class _Array(Protocol):  # numpy's types for Python 3.11 do not say that its arrays are buffers
        @property
        def __array_interface__(self) -> dict[str, Any]: ...

    BytesLike = Buffer | _Array
elif sys.version_info >= (3, 12):
    from collections.abc import Buffer as BytesLike
else:
    BytesLike = Any


class HasFileno(Protocol):
    """An object that has a descriptor: an `Fd`, a socket, a file object."""

    def fileno(self) -> int:
        """The number, lent."""
        ...


FdLike = int | HasFileno

_ONE = array.array("i", [0])


def numbers(fds: Sequence[Any]) -> array.array[int]:
    """The numbers, lent, of descriptors in any form: int, `Fd`, or object with ``fileno()``.

    Raises:
        NotADescriptor: An item has none of these forms.
        Closed: An item is closed.
    """
    try:
        if len(fds) == 1:
            item, found = fds[0], _ONE * 1  # a copy takes a third of the instructions of array.array("i", fds)
            found[0] = item if type(item) is int else _number(item)
            return found
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


def owners(items: Sequence[Any]) -> list[Any]:
    """What has to be closed after the send of descriptors that are given: each descriptor once.

    A number beside the object that owns it, such as ``[fd, fd.fileno()]``, is left out. Objects are compared by
    identity: they need not be hashable, and may be equal.

    Raises:
        NotADescriptor: An item is no descriptor, or has ``fileno()``, but no ``close()``.
        InvalidMessage: Two objects own one descriptor: the second would close it when it can be another file's.
        Closed: An item is closed.
    """
    found: dict[int, Any] = {}
    for item, number in zip(items, numbers(items), strict=True):
        if isinstance(item, int):
            found.setdefault(number, number)
            continue
        if not hasattr(item, "close"):
            raise NotADescriptor(f"{item!r} cannot be given, for it has no close(): lend it, or give its number")
        known = found.get(number, item)
        if known is not item and type(known) is not int:
            raise InvalidMessage(f"{known!r} and {item!r} own one descriptor ({number}): give one of them")
        found[number] = item
    return list(found.values())


def close_given(found: Iterable[Any]) -> None:
    """Close what `owners` found, after the kernel took the message.

    All are closed, even if closing one of them fails; then the failure is raised.
    """
    with contextlib.ExitStack() as stack:
        for item in found:
            if type(item) is int:
                stack.callback(os.close, item)
            else:
                stack.callback(item.close)


def not_open(rights: Iterable[int]) -> str:
    """Which of these numbers is not open: why the kernel refused to send them (EBADF)."""
    for number in rights:
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            return f"descriptor {number} is not open"
    return os.strerror(errno.EBADF)  # opened again meanwhile
