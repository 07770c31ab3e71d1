"""`grab`: a descriptor out of another process (pidfd_getfd(2), Linux 5.6)."""

from __future__ import annotations

import ctypes
import os

from fdpass.errors import BadDescriptor, CallFailed, FdpassError, InvalidMessage, NotPermitted, translated
from fdpass.fd import Fd

_PIDFD_GETFD = 438  # the same number on every architecture
_libc = ctypes.CDLL(None, use_errno=True)


def grab(pid: int, fd: int) -> Fd:
    """A duplicate of another process's descriptor: the same open file description, close-on-exec.

    The process notices nothing and keeps its own.

    Args:
        pid: The process, 1 or more.
        fd: The number of the descriptor there, 0 or more.

    Raises:
        NoSuchProcess: No process has this number.
        BadDescriptor: It has no such descriptor.
        NotPermitted: You may not trace it (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS): be its user or root, and
            mind kernel.yama.ptrace_scope.
        CallFailed: The kernel is too old (ENOSYS), or no descriptor slot is free (EMFILE).
        InvalidMessage: A number is out of range.
    """
    if pid < 1 or fd < 0:
        raise InvalidMessage(f"no process {pid} can have a descriptor {fd}: pid is 1 or more, fd 0 or more")
    try:
        process = Fd(os.pidfd_open(pid))
    except OSError as error:
        raise translated(error, f"cannot open process {pid}") from error
    with process:
        number = _libc.syscall(_PIDFD_GETFD, process.fileno(), fd, 0)
        if number < 0:
            raise _explained(ctypes.get_errno(), pid, fd)
        return Fd(number)


def _explained(number: int, pid: int, fd: int) -> FdpassError:
    if number == 1:  # EPERM
        return NotPermitted(
            number,
            f"not permitted to take descriptors from process {pid}: be its user or root (CAP_SYS_PTRACE), "
            "and see kernel.yama.ptrace_scope",
        )
    if number == 9:  # EBADF
        return BadDescriptor(number, f"process {pid} has no descriptor {fd}: see `fdpass inspect {pid}`")
    if number == 38:  # ENOSYS
        return CallFailed(number, "this kernel has no pidfd_getfd: it came with Linux 5.6")
    return translated(OSError(number, os.strerror(number)), f"cannot take descriptor {fd} of process {pid}")
