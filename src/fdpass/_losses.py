"""The exceptions that carry descriptors: those that arrived, which the code that catches the exception owns."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, Literal

from fdpass._errors import FdpassError
from fdpass._fd import Fd
from fdpass._words import counted

LossReason = Literal["table full", "control data cut", "refused by policy", "surplus", "sender gave up", "unknown"]


class Truncated(FdpassError, OSError):
    """The datagram was longer than ``bufsize``: the kernel dropped its end.

    Attributes:
        data: The first ``bufsize`` bytes.
        fds: The descriptors of the datagram. You own them.
        address: The sender's address, if its socket is bound; else None.
    """

    def __init__(self, reason: str, data: bytes, fds: Sequence[Fd], address: Any = None) -> None:
        super().__init__(reason)
        self.data = data
        self.fds = fds
        self.address = address

    def __reduce__(self) -> Any:  # OSError would be made anew of its text alone
        return type(self), (*self.args, self.data, self.fds, self.address), self.__dict__


class FdsLost(FdpassError, OSError):
    """Descriptors that were sent to you did not arrive: the kernel closed them, or fdpass closed a surplus.

    Attributes:
        reason: ``"table full"`` (RLIMIT_NOFILE: close descriptors, or raise the limit), ``"control data cut"``,
            ``"refused by policy"`` (of a security module, or BPF), ``"surplus"`` (more than ``max_fds`` came;
            fdpass closed the rest), ``"sender gave up"`` (acknowledged: the message that you asked for again
            will not come) or ``"unknown"``.
        data: The message's bytes.
        fds: The descriptors that did arrive. You own them.
        lost: How many descriptors are missing; None if the number cannot be known.
        again: True if the message was refused, and the next ``recv`` asks for it again, whole.
        address: The sender's address, if the message is a datagram from a bound socket; else None.
        truncated: True if the datagram was also longer than ``bufsize``: the kernel dropped its end.
    """

    def __init__(
        self,
        reason: LossReason,
        data: bytes,
        fds: Sequence[Fd] = (),
        *,
        lost: int | None = None,
        again: bool = False,
        address: Any = None,
        truncated: bool = False,
    ) -> None:
        number = "an unknown number of descriptors" if lost is None else counted(lost, "descriptor")
        rest = "; the message was refused: make room and receive again" if again else f"; {len(fds)} arrived"
        end = "; the end of the data was lost, too" if truncated else ""
        super().__init__(f"{number} lost: {reason}{rest}{end}")
        self.errno = errno.EMFILE if reason == "table full" else None
        self.reason: LossReason = reason
        self.data = data
        self.fds = fds
        self.lost = lost
        self.again = again
        self.address = address
        self.truncated = truncated

    def __reduce__(self) -> Any:  # OSError would be made anew of its text alone
        return type(self), (self.reason, self.data, self.fds), {**self.__dict__, "args": self.args}
