"""`grab`: a descriptor out of another process (pidfd_getfd(2), Linux 5.6)."""

from __future__ import annotations

import ctypes
import errno
import os

from fdpass._errors import (
    BadDescriptor,
    CallFailed,
    FdpassError,
    InvalidMessage,
    NoSuchProcess,
    NotPermitted,
    translated,
)
from fdpass._fd import Fd

_PIDFD_GETFD = 438  # the same number on every architecture
_INT_MAX = 2**31 - 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def grab(pid: int, fd: int) -> Fd:
    """A duplicate of another process's descriptor: the same open file description, close-on-exec.

    The process notices nothing and keeps its own.

    Args:
        pid: The process, 1 or more.
        fd: The number of the descriptor there, 0 or more.

    Raises:
        NoSuchProcess: No process has this number, or it has ended (it may wait for its parent still).
        BadDescriptor: It has no such descriptor.
        NotPermitted: You may not trace it (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS): be its user or root, and
            mind kernel.yama.ptrace_scope.
        CallFailed: The kernel is too old, or a seccomp filter hides the call (ENOSYS), or no descriptor slot is
            free (EMFILE).
        InvalidMessage: A number is out of range.
    """
    if not (1 <= pid <= _INT_MAX and 0 <= fd <= _INT_MAX):
        raise InvalidMessage(f"no process {pid} can have a descriptor {fd}: pid is 1 or more, fd 0 or more")
    try:
        with Fd(os.pidfd_open(pid)) as process:
            return Fd(_pidfd_getfd(process.fileno(), fd))
    except OSError as error:
        raise _explained(error, pid, fd) from error


def _pidfd_getfd(pidfd: int, fd: int) -> int:
    number: int = _libc.syscall(*map(ctypes.c_long, (_PIDFD_GETFD, pidfd, fd, 0)))
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return number


def _explained(error: OSError, pid: int, fd: int) -> FdpassError:
    number = error.errno or 0
    if number == 1:  # EPERM
        return NotPermitted(
            number,
            f"not permitted to take descriptors from process {pid}: be its user or root (CAP_SYS_PTRACE), "
            "and see kernel.yama.ptrace_scope; processes that changed their user can be closed to all but root",
        )
    if number == 3:  # ESRCH
        return NoSuchProcess(number, f"process {pid} does not exist, or has ended")
    if number == 9:  # EBADF
        return BadDescriptor(number, f"process {pid} has no descriptor {fd}: see `fdpass inspect {pid}`")
    if number == 38:  # ENOSYS
        return CallFailed(
            number, "no pidfd_getfd: it came with Linux 5.6, and a container's seccomp filter may hide it"
        )
    if number in {errno.ENOENT, errno.EINVAL}:  # what pidfd_open(2) says of a thread's number
        return CallFailed(number, f"{pid} is a thread, not a process: take the number of its process")
    return translated(error, f"cannot take descriptor {fd} of process {pid}")
