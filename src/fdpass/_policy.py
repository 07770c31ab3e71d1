"""`Policy`: which descriptors a channel admits; the rest is closed before user code sees it."""

import fcntl
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fdpass._fd import kind_of

_ACCESS = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the descriptors of a received message must be; a message that has others raises `PolicyError`.

    Attributes:
        kinds: Admitted kinds, as `Fd.kind` names them; None admits all.
        access: ``"r"``, ``"w"`` or ``"rw"``: the access mode that each must have, exactly; None admits all.
            The kernel calls memfds, sockets and the like ``"rw"``.
        seals: F_SEAL_* bits that each must bear (fcntl(2)): 0 asks for none.
        count: How many descriptors each message must have, exactly; None admits any number.
    """

    kinds: Collection[str] | None = None
    access: str | None = None
    seals: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        if self.access not in {None, "r", "w", "rw"}:
            raise ValueError(f"access is 'r', 'w', 'rw' or None, not {self.access!r}")
        if isinstance(self.kinds, str):
            raise TypeError(f"kinds is a set of kinds: write {{{self.kinds!r}}}")

    def objection(self, fds: Sequence[int]) -> str | None:
        """Why these descriptors are not admitted; None if they are."""
        if self.count is not None and len(fds) != self.count:
            return f"{len(fds)} descriptor(s) came, where {self.count} are admitted"
        try:
            return next((text for fd in fds if (text := self._objection(fd))), None)
        except OSError as error:
            return f"a descriptor came that cannot be examined: {error.strerror}"

    def _objection(self, fd: int) -> str | None:
        if self.kinds is not None and (kind := kind_of(fd)) not in self.kinds:
            return f"a descriptor of kind {kind} came, where {', '.join(sorted(self.kinds)) or 'none'} is admitted"
        if self.access is not None:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            access = "none" if flags & os.O_PATH else _ACCESS[flags & os.O_ACCMODE]
            if access != self.access:
                return f"a descriptor with access {access} came, where {self.access} is admitted"
        if self.seals and _seals(fd) & self.seals != self.seals:
            return f"a descriptor without the seals {self.seals:#x} came"
        return None


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:  # EINVAL: nothing that can be sealed
        return 0
