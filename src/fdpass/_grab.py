"""`grab`: duplicates a descriptor of another process (pidfd_getfd(2), Linux 5.6)."""

from __future__ import annotations

import errno
import os

from fdpass import _ptrace
from fdpass._errors import (
    BadDescriptor,
    CallFailed,
    FdpassError,
    InvalidMessage,
    NoSuchProcess,
    NotPermitted,
    translated,
)
from fdpass._fd import Fd, opened

_PIDFD_GETFD = 438  # the same number on every architecture
_INT_MAX = 2**31 - 1


def grab(pid: int, fd: int) -> Fd:
    """Duplicate a descriptor of another process: the same open file, close-on-exec here.

    The other process keeps its own descriptor, and is not stopped.

    Args:
        pid: The number of the process, 1 or more.
        fd: The number of the descriptor in that process, 0 or more.

    Returns:
        The duplicate; you own it.

    Raises:
        NoSuchProcess: No process has this number, or the process has ended.
        BadDescriptor: The process has no such descriptor.
        NotPermitted: You may not trace the process (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS); the text says which
            rule forbids it: another user, kernel.yama.ptrace_scope, ...
        CallFailed: The kernel is too old, or a seccomp filter hides the call, or ctypes cannot be imported, in a
            subinterpreter for instance (all ENOSYS); or no descriptor slot is free (EMFILE).
        InvalidMessage: A number is out of bounds.
    """
    if not (1 <= pid <= _INT_MAX and 0 <= fd <= _INT_MAX):
        raise InvalidMessage(f"process {pid}, descriptor {fd}: pid must be 1 or more, and fd 0 or more")
    try:
        with opened(os.pidfd_open, pid) as process:
            return Fd(_pidfd_getfd(process.fileno(), fd))
    except CallFailed:
        raise
    except OSError as error:
        raise _translated(error, pid, fd) from error


def _pidfd_getfd(pidfd: int, fd: int) -> int:
    try:
        import ctypes  # noqa: PLC0415 - not at the top: subinterpreters with a GIL of their own refuse it
    except ImportError as error:
        raise CallFailed(errno.ENOSYS, "grab needs ctypes, which this interpreter cannot import") from error
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    number: int = libc.syscall(*map(ctypes.c_long, (_PIDFD_GETFD, pidfd, fd, 0)))
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return number


def _translated(error: OSError, pid: int, fd: int) -> FdpassError:
    number = error.errno or 0
    if number == errno.EPERM:
        reason = _ptrace.refusal(pid, attach=True)
        return NotPermitted(number, f"not permitted to take descriptors from process {pid}: {reason}")
    if number == errno.ESRCH:
        return NoSuchProcess(number, f"process {pid} does not exist, or has ended{_ptrace.hidden()}")
    if number == errno.EBADF:
        return BadDescriptor(number, f"process {pid} has no descriptor {fd}: see `fdpass inspect {pid}`")
    if number == errno.ENOSYS:
        return CallFailed(
            number, "the kernel has no pidfd_getfd: it needs Linux 5.6, and a seccomp filter that admits the call"
        )
    if number in {errno.ENOENT, errno.EINVAL}:  # pidfd_open(2) fails so for the number of a thread
        return CallFailed(number, f"{pid} is a thread, not a process: pass the number of its process")
    return translated(error, f"cannot take descriptor {fd} of process {pid}")
