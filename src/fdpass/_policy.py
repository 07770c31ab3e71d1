"""`Policy`: which descriptors a channel admits; it closes the others before user code sees them."""

import fcntl
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from fdpass._kinds import KINDS, Kind, kind_of, prepare
from fdpass._words import counted

_ACCESS = {os.O_RDONLY: "r", os.O_WRONLY: "w", os.O_RDWR: "rw"}


@dataclass(frozen=True, slots=True)
class Policy:
    """Conditions for the descriptors of a received message; a message with others raises `PolicyError`.

    Attributes:
        kinds: The admitted kinds, as `Fd.kind` names them; None admits all.
        access: ``"r"``, ``"w"`` or ``"rw"``: the access mode that each descriptor must have, exactly; None admits
            all. Memfds and sockets have ``"rw"``.
        seals: F_SEAL_* bits that each descriptor must have (fcntl(2)); 0 requires none.
        count: How many descriptors each message must have, exactly; None admits any number.

    Raises:
        ValueError: ``access`` or one of ``kinds`` has another value.
        TypeError: ``kinds`` is a string.
    """

    kinds: Collection[Kind] | None = None
    access: Literal["r", "w", "rw"] | None = None
    seals: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        if self.access not in {None, "r", "w", "rw"}:
            raise ValueError(f"access is 'r', 'w', 'rw' or None, not {self.access!r}")
        if isinstance(self.kinds, str):
            raise TypeError(f"kinds is a set of kinds, not a string: write {{{self.kinds!r}}}")
        if unknown := sorted(map(repr, set(self.kinds or ()) - KINDS)):
            raise ValueError(f"no kind is called {', '.join(unknown)}: the kinds are {', '.join(sorted(KINDS))}")
        if self.kinds is not None:
            prepare()

    def objection(self, fds: Sequence[int]) -> str | None:
        """The reason why the policy does not admit these descriptors (lent); None if it admits them."""
        if self.count is not None and len(fds) != self.count:
            return f"{counted(len(fds), 'descriptor')} came, but the policy admits exactly {self.count}"
        try:
            return next((text for fd in fds if (text := self._objection(fd))), None)
        except OSError as error:
            return f"a descriptor came that the policy cannot examine: {error.strerror}"

    def _objection(self, fd: int) -> str | None:
        if self.kinds is not None and (kind := kind_of(fd)) not in self.kinds:
            admitted = ", ".join(sorted(self.kinds)) or "none"
            return f"a descriptor of kind {kind} came, but the policy admits only: {admitted}"
        if self.access is not None:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            # open(2) has a fourth access mode, 3, which permits neither reading nor writing.
            access = "none" if flags & os.O_PATH else _ACCESS.get(flags & os.O_ACCMODE, "none")
            if access != self.access:
                return f"a descriptor with access {access} came, but the policy admits only {self.access}"
        if self.seals and _seals(fd) & self.seals != self.seals:
            return f"a descriptor came without the seals {self.seals:#x} that the policy requires"
        return None


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:  # EINVAL: not a kind of file that has seals
        return 0
