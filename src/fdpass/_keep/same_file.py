"""`same_file`: whether two descriptors of this process refer to the same open file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

_F_DUPFD_QUERY = 1027  # Linux 6.10: F_LINUX_SPECIFIC_BASE + 3; CPython has no name for it

Identity = tuple[int, int]


def identity(fd: int) -> Identity:
    """Device and inode of a descriptor (lent): two of the same open file have the same. Raises OSError."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def same_file(a: int, b: int) -> bool:
    """Whether two descriptors (lent) with the same `identity` refer to the same open file.

    Before Linux 6.10 the kernel does not tell. Then sockets, and regular files and pipes with the same flags,
    count as the same open file, and all others as different. kcmp(2) would tell, but containers forbid it.
    """
    with contextlib.suppress(OSError):  # EINVAL: an older kernel; EPERM, ENOSYS: a sandbox
        return bool(fcntl.fcntl(a, _F_DUPFD_QUERY, b))
    mode = os.fstat(a).st_mode
    if stat.S_ISSOCK(mode):
        return True
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        return False  # eventfds and the like share one inode
    return fcntl.fcntl(a, fcntl.F_GETFL) == fcntl.fcntl(b, fcntl.F_GETFL)
