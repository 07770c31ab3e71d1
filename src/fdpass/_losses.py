"""The exceptions that carry what did arrive: descriptors, owned by whoever catches them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fdpass._errors import FdpassError
from fdpass._fd import Fd

LossReason = Literal["table full", "control data cut", "refused by policy", "surplus", "sender gave up", "unknown"]


class Truncated(FdpassError, OSError):
    """The datagram was longer than ``bufsize``: its end is gone.

    ``data``, ``fds`` (you own them) and ``address`` have what came.
    """

    def __init__(self, reason: str, data: bytes, fds: Sequence[Fd], address: Any = None) -> None:
        super().__init__(reason)
        self.data = data
        self.fds = fds
        self.address = address


class FdsLost(FdpassError, OSError):
    """Descriptors that were sent to you did not arrive: the kernel closed them, or they were not expected.

    Attributes:
        reason: Why, as exactly as can be known: ``"table full"`` (RLIMIT_NOFILE: close something, or raise
            it), ``"control data cut"``, ``"refused by policy"`` (a security module, or BPF),
            ``"surplus"`` (more than you asked for; fdpass closed the rest), ``"sender gave up"`` (a message
            that was to come again, in acknowledged mode, will not) or ``"unknown"``.
        data: The message's bytes.
        fds: The descriptors that did arrive. You own them.
        lost: How many are missing; None when nothing tells.
        again: True if the message was refused and the next ``recv`` asks for it again, whole.
        address: The sender's, of a datagram from a bound socket; else None.
        truncated: True if the datagram was longer than ``bufsize``, too: its end is gone.
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
        many = "an unknown number of" if lost is None else str(lost)
        tail = "; the message was refused: make room and receive again" if again else f"; {len(fds)} arrived"
        cut = "; the data was cut, too" if truncated else ""
        super().__init__(f"{many} descriptor(s) lost: {reason}{tail}{cut}")
        self.errno = 24 if reason == "table full" else None  # EMFILE
        self.reason: LossReason = reason
        self.data = data
        self.fds = fds
        self.lost = lost
        self.again = again
        self.address = address
        self.truncated = truncated
