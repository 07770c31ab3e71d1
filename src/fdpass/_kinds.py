"""Which kind of file a descriptor refers to: the words of `Fd.kind` and `Policy`. Asking changes nothing.

The kind comes from fstat(2), SO_ACCEPTCONN, and, where the file mode does not tell, the link in /proc/PID/fd.
A process chooses the names of its files, so no name alone decides: a memfd is known by its device.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import socket
import stat
from typing import Literal, get_args

Kind = Literal[
    "file",
    "dir",
    "pipe",
    "socket",
    "listener",
    "memfd",
    "pidfd",
    "eventfd",
    "epoll",
    "timerfd",
    "signalfd",
    "inotify",
    "char",
    "block",
    "symlink",
    "other",
]
KINDS: frozenset[str] = frozenset(get_args(Kind))

_BY_MODE: dict[int, Kind] = {
    stat.S_IFDIR: "dir",
    stat.S_IFIFO: "pipe",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
}
_BY_LINK: dict[str, Kind] = {
    "anon_inode:[eventfd]": "eventfd",
    "anon_inode:[eventpoll]": "epoll",
    "anon_inode:[pidfd]": "pidfd",
    "anon_inode:[timerfd]": "timerfd",
    "anon_inode:[signalfd]": "signalfd",
    "anon_inode:inotify": "inotify",
}
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_HUGE_SHIFT = 26  # MFD_HUGE_SHIFT: the size of huge pages, as a power of 2, is in these bits of the flags
# With SOCK_NONBLOCK in the type, CPython does not set O_NONBLOCK where a default timeout is set.
_ANY_TYPE = socket.SOCK_STREAM | socket.SOCK_NONBLOCK


def kind_from(found: os.stat_result, link: str | None) -> Kind:
    """The kind of a descriptor of any process; a listener counts as a socket.

    Args:
        found: What stat(2) says of the file.
        link: The link in /proc/PID/fd; None if there is no /proc.
    """
    # The link of a file with a path starts with a slash, so no path can pass for one of these names.
    if link in _BY_LINK:
        return _BY_LINK[link]
    if link is not None and link.startswith("pidfd:"):  # pidfds have a file system of their own since Linux 6.9
        return "pidfd"
    if stat.S_ISREG(found.st_mode):
        if link is not None and link.startswith("anon_inode:"):
            return "other"
        return "memfd" if _is_memfd(found) else "file"
    return _BY_MODE.get(stat.S_IFMT(found.st_mode), "other")


def kind_of(fd: int) -> Kind:
    """What a descriptor of this process refers to, as `Fd.kind`. ``fd`` is lent. Raises OSError."""
    found = os.fstat(fd)
    link = None
    if stat.S_IFMT(found.st_mode) not in _BY_MODE:
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # no /proc, in a chroot for instance
            if not stat.S_ISREG(found.st_mode):
                raise
    kind = kind_from(found, link)
    return "listener" if kind == "socket" and _listens(fd) else kind


def prepare() -> None:
    """Learn now what `kind_of` needs a free descriptor slot for: messages can arrive when the table is full."""
    with contextlib.suppress(OSError):
        _memfd_device(mmap.PAGESIZE)


def _listens(fd: int) -> bool:
    sock = socket.socket.__new__(socket.socket)
    try:
        sock.__init__(socket.AF_UNIX, _ANY_TYPE, 0, fileno=fd)  # type: ignore[misc]
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # EBADF: opened with O_PATH, so it is the file of a socket
        return False
    finally:
        sock.detach()  # the socket object must not close a lent descriptor


def _is_memfd(found: os.stat_result) -> bool:
    if found.st_nlink:  # a memfd has no name, so no file that has one costs a second look
        return False
    if found.st_dev == _memfd_device(mmap.PAGESIZE):
        return True
    return found.st_blksize > mmap.PAGESIZE and found.st_dev == _memfd_device(found.st_blksize)


@functools.cache
def _memfd_device(page: int) -> int | None:
    """The device of all memfds with this size of page, which no path leads to. Raises OSError (EMFILE)."""
    huge = 0 if page == mmap.PAGESIZE else os.MFD_HUGETLB | (page.bit_length() - 1) << _HUGE_SHIFT
    try:
        fd = os.memfd_create("fdpass-kind", os.MFD_CLOEXEC | huge)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        return None  # no huge pages of this size, or a seccomp filter
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)
