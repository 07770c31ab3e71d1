"""Finds the open descriptors and the children of this process, and whether two descriptors are one open file."""

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
        For each number, its kind (see `Fd.kind`) and its target (as /proc/self/fd shows it: a path, or the
        kernel's name with the inode in brackets), with a space between.
    """
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        lent = Fd(number)
        try:
            found[number] = f"{lent.kind} {os.readlink(f'/proc/self/fd/{number}')}"
        except OSError:  # closed by now: the descriptor by which the directory was read, for instance
            continue
        finally:
            lent.take()
    return found


def children() -> dict[int, str]:
    """The children of this process that run, or that no code has waited for.

    Returns:
        For each pid, the name and the state of the process.
    """
    try:
        # WNOWAIT reaps no child: the code that started the child needs its status.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return {}
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                line = file.read()
        except (FileNotFoundError, ProcessLookupError):  # the process has just ended
            continue
        # proc(5): the name is in brackets, and may itself contain spaces and brackets.
        name, _, rest = line.partition("(")[2].rpartition(")")
        state, parent = rest.split()[:2]
        if int(parent) == os.getpid():
            found[int(pid)] = f"{name} ({'ended, not waited for' if state == 'Z' else 'running'})"
    return found


def same_file(a: Any, b: Any) -> bool:
    """Whether two descriptors refer to the same open file (open file description): one offset, one set of flags.

    The function uses kcmp(2). If the kernel lacks or forbids it, the function compares device and inode, and
    SO_COOKIE of sockets. That is exact for files with an inode of their own (sockets, pipes, memfds), but a file
    that was opened twice then looks like one open file.

    Args:
        a: A number, an `Fd`, or an object with ``fileno()``. Lent.
        b: Another.

    Raises:
        OSError: A number is not open (EBADF).
    """
    first, second = (item if isinstance(item, int) else item.fileno() for item in (a, b))
    answer = _kcmp(first, second)
    return _identity(first) == _identity(second) if answer is None else answer


def _kcmp(a: int, b: int) -> bool | None:
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.getpid()
    order = libc.syscall(*map(ctypes.c_long, (_KCMP, pid, pid, _KCMP_FILE, a, b)))
    if order < 0:
        os.fstat(a), os.fstat(b)  # EBADF for a number that is not open; else kcmp(2) itself is missing
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
    """Descriptors and children that `multiprocessing` keeps until the process ends: not leaks of a test."""
    fds: set[Any] = set()
    pids: set[Any] = set()
    for module, attribute in (("resource_tracker", "_resource_tracker"), ("forkserver", "_forkserver")):
        helper = getattr(sys.modules.get(f"multiprocessing.{module}"), attribute, None)
        fds |= {getattr(helper, name, None) for name in ("_fd", "_forkserver_alive_fd")}
        pids |= {getattr(helper, name, None) for name in ("_pid", "_forkserver_pid")}
    sharer = getattr(sys.modules.get("multiprocessing.resource_sharer"), "_resource_sharer", None)
    listener = getattr(getattr(sharer, "_listener", None), "_listener", None)
    if listener is not None:
        fds.add(listener._socket.fileno())  # noqa: SLF001 - the module has no public name for it
    return fds - {None}, pids - {None}
