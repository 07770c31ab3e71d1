"""`clone`: a fork whose child has the same table of descriptors as its parent, not a copy of it (CLONE_FILES).

What one of the two processes opens or closes is open or closed in both: see clone(2). So the child must never
unwind, exit as Python programs do, or finalise an object of the parent that owns a descriptor. It ends with
`os._exit`. Memory is copied, as fork(2) does it.

clone(2) is called and not clone3(2), which container runtimes refuse (ENOSYS) since their filters cannot read its
flags.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import sys
from typing import NamedTuple

from fdpass._errors import translated

_CLONE_FILES = 0x00000400  # linux/sched.h, like those below
_CLONE_PARENT = 0x00008000
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_PR_SET_PDEATHSIG = 1  # linux/prctl.h, like those below
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_TID_ADDRESS = 40
_LINKS = 2  # of a folder without folders in it; /proc/PID/task has one more for each thread: fs/proc/base.c


class _Call(NamedTuple):
    """How a machine calls clone(2): its number, and the places of its arguments, which differ (kernel/fork.c)."""

    number: int
    flags: int = 0
    stack: int = 1
    child_tid: int = 3


_BACKWARDS = {"flags": 0, "stack": 1, "child_tid": 4}
_CALLS = {
    "x86_64": _Call(56),
    "aarch64": _Call(220, **_BACKWARDS),
    "riscv64": _Call(220, **_BACKWARDS),
    "ppc64le": _Call(120, **_BACKWARDS),
    "s390x": _Call(120, flags=1, stack=0),
}
"""By what uname(2) says of the machine. A 32-bit program gets the same answer, and has other numbers."""

# PyDLL: the interpreter's lock is held during the calls, as in os.fork. With CDLL the child would wait for it.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_python = ctypes.pythonapi


def clone(*, sibling: bool = False) -> int:
    """Fork, as os.fork does, but with one table of descriptors for both processes.

    Functions of `os.register_at_fork` run, too: none of them may close a descriptor in the child.

    Args:
        sibling: The parent of the new process is the parent of this one.

    Returns:
        The process number of the child; in the child 0.

    Raises:
        RuntimeError: This process has more than one thread; or the machine is none of those that this file knows.
        CallFailed: clone(2) failed: EAGAIN (too many processes), ENOMEM, EPERM (a filter forbids it).
    """
    call = _call()
    if call is None:
        raise RuntimeError(f"clone(2) of {platform.machine()} is not known")
    if _threads() != 1:
        raise RuntimeError("only a process with one thread can be cloned")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # else both processes would write what is in its buffer
    flags = _CLONE_FILES | int(signal.SIGCHLD) | (_CLONE_PARENT if sibling else 0)
    tid = _tid_address()
    if tid:
        flags |= _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
    arguments = [0] * 5  # a stack of 0: the child goes on with its copy of ours
    arguments[call.flags], arguments[call.child_tid] = flags, tid
    longs = [ctypes.c_long(argument) for argument in (call.number, *arguments)]
    _python.PyOS_BeforeFork()
    pid: int = _libc.syscall(*longs)
    if pid == 0:
        _python.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()
    _python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise translated(OSError(number, os.strerror(number)), "cannot clone this process")
    return pid


def why_not() -> str:
    """Find out why processes cannot share descriptors here, by a trial; "" if they can.

    A system call filter can forbid it, and an emulated kernel may not have it.
    """
    if _call() is None:
        return f"clone(2) of {platform.machine()} is not known"
    kept, closed = os.pipe()
    try:
        pid = clone()
        if pid == 0:
            os.close(closed)
            os._exit(0)
        os.waitpid(pid, 0)
        return "" if not _is_open(closed) else "the kernel does not share the table of descriptors"
    except (OSError, RuntimeError) as error:
        return getattr(error, "strerror", None) or str(error)
    finally:
        for fd in (kept, closed):
            if _is_open(fd):
                os.close(fd)


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # no descriptor may be free, which a list needs
        return os.stat("/proc/self/task").st_nlink - _LINKS


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _call() -> _Call | None:
    return _CALLS.get(platform.machine()) if sys.maxsize > 2**32 else None


def _tid_address() -> int:
    """Where the C library keeps the number of this thread, which its own fork renews in the child.

    Returns:
        0 if the kernel does not say it (without CONFIG_CHECKPOINT_RESTORE, and in gVisor): then raise(3) in the
        child, which uses that number, has no effect.
    """
    address = ctypes.c_ulong(0)
    return address.value if _prctl(_PR_GET_TID_ADDRESS, ctypes.addressof(address)) == 0 else 0


def become_subreaper() -> None:
    """Become the parent of each descendant whose own parent ends.

    Raises:
        CallFailed: prctl(2) failed.
    """
    if _prctl(_PR_SET_CHILD_SUBREAPER, 1) != 0:
        number = ctypes.get_errno()
        raise translated(OSError(number, os.strerror(number)), "cannot become a subreaper")


def signal_at_parents_death(number: int) -> None:
    """Let the kernel send this signal to this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, argument: int) -> int:
    longs = [ctypes.c_ulong(each) for each in (argument, 0, 0, 0)]
    status: int = _libc.prctl(option, *longs)
    return status
