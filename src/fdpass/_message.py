"""`Message`: bytes and the descriptors that came with them, owned until taken."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from fdpass._fd import Fd


class Credentials(NamedTuple):
    """Who sent a message, as the kernel vouches for it on a socket with SO_PASSCRED."""

    pid: int
    uid: int
    gid: int


class Message:
    """One message: bytes, and the descriptors that came with them, which it owns.

    ``len(message)`` is the number of descriptors. `fds` makes `Fd` objects of them when it is first asked
    for; from then on each `Fd` owns its own, and the message only closes those that you left in it.

    Attributes:
        data: The bytes.
        credentials: The sender's, if the socket passes them (SO_PASSCRED), else None.
        flags: ``msg_flags`` as recvmsg(2) gave them.
        address: The sender's address, of a datagram from a bound socket; else None.
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
        """The descriptors, each owned by its `Fd`, in the order in which they were sent."""
        if self._fds is None:
            raw, self._raw = self._raw, ()
            self._fds = tuple(map(Fd, raw))
        return self._fds

    def __len__(self) -> int:
        return len(self._raw) if self._fds is None else len(self._fds)

    def __bool__(self) -> bool:
        return bool(self.data) or len(self) > 0

    def close(self) -> None:
        """Close every descriptor that was not taken. A second call does nothing."""
        raw, self._raw = self._raw, ()
        if raw:
            close_all(raw)
        elif self._fds:
            for fd in self._fds:
                fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Message of {len(self.data)} bytes and {len(self)} descriptors>"

    def __del__(self) -> None:
        if self._raw:
            warnings.warn(
                f"forgotten: {self!r}; close it, or take its descriptors",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            self.close()


def release(message: Message) -> list[int]:
    """The numbers out of a message that was just received: the caller owns them now."""
    raw, message._raw = list(message._raw), ()  # noqa: SLF001
    return raw


def close_all(raw: Sequence[int]) -> None:
    """Close owned numbers: neighbours with one close_range(2), since the kernel hands out the lowest free."""
    if len(raw) == 1:
        os.close(raw[0])
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
