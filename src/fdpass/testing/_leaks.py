"""What this process holds: open descriptors, children, and whether two descriptors are the same open file."""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import stat
import sys
from typing import Any

from fdpass import Fd

_SO_COOKIE = 57  # asm-generic/socket.h; CPython has no name for it
_KCMP_FILE = 0
_KCMP = {"x86_64": 312, "i386": 349, "i686": 349, "armv7l": 378, "ppc64le": 354, "s390x": 343}.get(
    platform.machine(),
    272,  # the generic table: aarch64, riscv64, loongarch64
)


def open_fds() -> dict[int, str]:
    """The open descriptors of this process.

    Returns:
        For each number its kind (as of `Fd.kind`) and its target (as ``/proc/self/fd`` shows it: a path, or
        the kind and inode in brackets), with a space between.
    """
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            found[number] = f"{_kind(number)} {os.readlink(f'/proc/self/fd/{number}')}"
        except FileNotFoundError:  # the descriptor with which the directory was read
            continue
    return found


def _kind(number: int) -> str:
    lent = Fd(number)
    try:
        return lent.kind
    except FileNotFoundError:
        raise
    except OSError:  # telling a listener takes a free slot, and a full table has none
        return "socket" if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{number}").st_mode) else "other"
    finally:
        lent.take()


def children() -> dict[int, str]:
    """The children of this process, running or not yet waited for: pid, and name with state."""
    try:
        # WNOWAIT reaps nothing: whoever started a child wants its status.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                line = file.read()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        # proc(5): the name stands in brackets and may contain spaces and brackets itself.
        name, _, rest = line.partition("(")[2].rpartition(")")
        state, parent = rest.split()[:2]
        if int(parent) == os.getpid():
            found[int(pid)] = f"{name} ({'ended, not waited for' if state == 'Z' else 'running'})"
    return found


def same_file(a: Any, b: Any) -> bool:
    """Whether two descriptors refer to the same *open file description*: one offset, one set of flags.

    Where the kernel has no kcmp(2), or does not permit it, it is told by device and inode, and for sockets by
    SO_COOKIE: enough for what has an inode of its own (sockets, pipes, memfds), but two separate openings of
    one file then look the same.

    Args:
        a: A number, an `Fd`, or anything with ``fileno()``. Lent.
        b: Another.
    """
    first, second = (item if isinstance(item, int) else item.fileno() for item in (a, b))
    answer = _kcmp(first, second)
    return _identity(first) == _identity(second) if answer is None else answer


def _kcmp(a: int, b: int) -> bool | None:
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.getpid()
    order = libc.syscall(*map(ctypes.c_long, (_KCMP, pid, pid, _KCMP_FILE, a, b)))
    if order < 0:
        os.fstat(a), os.fstat(b)  # a number that is not open is the caller's mistake, not a missing system call
        return None
    return bool(order == 0)


def _identity(fd: int) -> tuple[int, int, bytes]:
    status = os.fstat(fd)
    cookie = b""
    if stat.S_ISSOCK(status.st_mode):
        with socket.socket(fileno=os.dup(fd)) as sock:
            cookie = sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)
    return status.st_dev, status.st_ino, cookie


def interpreters_own() -> tuple[set[int], set[int]]:
    """Descriptors and children that `multiprocessing` keeps for the life of the process: nobody's leak."""
    fds: set[Any] = set()
    pids: set[Any] = set()
    for module, attribute in (("resource_tracker", "_resource_tracker"), ("forkserver", "_forkserver")):
        helper = getattr(sys.modules.get(f"multiprocessing.{module}"), attribute, None)
        fds |= {getattr(helper, name, None) for name in ("_fd", "_forkserver_alive_fd")}
        pids |= {getattr(helper, name, None) for name in ("_pid", "_forkserver_pid")}
    sharer = getattr(sys.modules.get("multiprocessing.resource_sharer"), "_resource_sharer", None)
    listener = getattr(getattr(sharer, "_listener", None), "_listener", None)
    if listener is not None:
        fds.add(listener._socket.fileno())  # noqa: SLF001 - the module offers no other way to know it
    return fds - {None}, pids - {None}
