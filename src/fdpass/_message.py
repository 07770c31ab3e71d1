"""`Message`: bytes and the descriptors that came with them, owned until taken."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from fdpass._fd import Fd


class Credentials(NamedTuple):
    """The process that sent a message, as the kernel checked it (SCM_CREDENTIALS of unix(7)).

    Attributes:
        pid: Its number in the receiver's pid namespace.
        uid: Its user.
        gid: Its group.
    """

    pid: int
    uid: int
    gid: int


class Message:
    """One message: bytes, and the descriptors that came with them, which the message owns.

    ``len(message)`` is the number of descriptors. The first use of `fds` makes an `Fd` of each, which owns its
    descriptor from then on; `close` closes each `Fd` that you did not empty with ``take()``.

    Attributes:
        data: The bytes.
        credentials: The sender's credentials, if the socket has SO_PASSCRED; else None.
        flags: ``msg_flags`` as recvmsg(2) returned them.
        address: The sender's address, if the message is a datagram from a bound socket; else None.
    """

    __slots__ = ("_fds", "_raw", "address", "credentials", "data", "flags")

    def __init__(
        self,
        data: bytes,
        raw: Sequence[int] = (),
        credentials: Credentials | None = None,
        flags: int = 0,
        address: Any = None,
    ) -> None:
        self._raw = raw
        self._fds: tuple[Fd, ...] | None = None
        self.data = data
        self.credentials = credentials
        self.flags = flags
        self.address = address

    @property
    def fds(self) -> tuple[Fd, ...]:
        """The descriptors, in the order in which they were sent; each `Fd` owns its own."""
        if self._fds is None:
            raw, self._raw = self._raw, ()
            self._fds = tuple(map(Fd, raw))
        return self._fds

    def __len__(self) -> int:
        return len(self._raw) if self._fds is None else len(self._fds)

    def __bool__(self) -> bool:
        return bool(self.data) or len(self) > 0

    def close(self) -> None:
        """Close every descriptor that was not taken out. A second call does nothing.

        Raises:
            OSError: close(2) of an `Fd` in `fds` failed (see `Fd.close`). All of them are closed.
        """
        raw, self._raw = self._raw, ()
        if len(raw) == 1:
            os.closerange(raw[0], raw[0] + 1)  # the usual case, without a call more
        elif raw:
            close_all(raw)
        elif self._fds:
            with contextlib.ExitStack() as stack:  # closes the others, too, if one fails
                for fd in self._fds:
                    stack.callback(fd.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Message of {len(self.data)} bytes and {len(self)} descriptors>"

    def __reduce__(self) -> NoReturn:  # used by pickle and by both functions of copy
        raise TypeError("a Message cannot be copied or pickled, for it owns descriptors: pass on data and fds")

    def __del__(self) -> None:
        if self._raw:
            text = f"{self!r} was forgotten, and is closed now: call close(), or use it in a with statement"
            try:
                warnings.warn(text, ResourceWarning, source=self, stacklevel=2)
            finally:  # with -W error the warning is raised
                self.close()


def release(message: Message) -> list[int]:
    """Take the numbers out of a message that was just received: the caller owns them from then on."""
    raw, message._raw = list(message._raw), ()  # noqa: SLF001
    return raw


def close_all(raw: Sequence[int]) -> None:
    """Close owned numbers that no user code has seen, without errors.

    Neighbours are closed with one close_range(2): the kernel gives out the lowest free numbers, so most are.
    An error of close(2) is the affair of the process that wrote to the file: with a file on FUSE a hostile peer
    could raise any.
    """
    if len(raw) == 1:
        os.closerange(raw[0], raw[0] + 1)
        return
    start = end = -1
    for fd in raw:
        if fd == end:
            end += 1
            continue
        if end >= 0:
            os.closerange(start, end)
        start, end = fd, fd + 1
    if end >= 0:
        os.closerange(start, end)
