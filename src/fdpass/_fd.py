"""`Fd`: one owned descriptor, closed exactly once.

The code that holds an `Fd` owns its descriptor, and must `close` it, `take` the number out, or move it into a
file object or a socket. An `Fd` that is forgotten closes its descriptor too, with a `ResourceWarning`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket as _socket
import stat
import warnings
from collections.abc import Callable
from multiprocessing import reduction
from types import TracebackType
from typing import IO, Any, Self, overload

from fdpass._errors import Closed, NotADescriptor, translated

_BASE_FLAGS = {
    "r": 0,
    "w": os.O_CREAT | os.O_TRUNC,
    "x": os.O_CREAT | os.O_EXCL,
    "a": os.O_CREAT | os.O_APPEND,
}
_BY_MODE = {
    stat.S_IFDIR: "dir",
    stat.S_IFIFO: "pipe",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFLNK: "symlink",
    stat.S_IFSOCK: "socket",
}
_BY_LINK = {
    "anon_inode:[eventfd]": "eventfd",
    "anon_inode:[eventpoll]": "epoll",
    "anon_inode:[pidfd]": "pidfd",
    "anon_inode:[timerfd]": "timerfd",
    "anon_inode:[signalfd]": "signalfd",
    "anon_inode:inotify": "inotify",
}


def kind_from(mode: int, link: str) -> str:
    """The kind of a descriptor, from its file mode and its link in /proc/PID/fd; a listener counts as a socket."""
    if link in _BY_LINK:
        return _BY_LINK[link]
    if link.startswith("pidfd:"):  # pidfds have a file system of their own since Linux 6.9
        return "pidfd"
    if stat.S_ISREG(mode):
        return "other" if link.startswith("anon_inode:") else "memfd" if link.startswith("/memfd:") else "file"
    return _BY_MODE.get(stat.S_IFMT(mode), "other")


def kind_of(fd: int) -> str:
    """What a descriptor of this process refers to, as `Fd.kind`. ``fd`` is lent. Raises OSError."""
    kind = kind_from(os.fstat(fd).st_mode, os.readlink(f"/proc/self/fd/{fd}"))
    if kind == "socket":
        try:
            sock = _socket.socket(fileno=fd)
        except OSError:  # EBADF: opened with O_PATH, so it is the file of a socket
            return kind
        try:
            return "listener" if sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN) else kind
        finally:
            sock.detach()  # the socket object must not close a lent descriptor
    return kind


def _open_path(path: str | os.PathLike[str], mode: str = "r", *, perm: int = 0o666) -> Fd:
    """Open a file as the built-in `open` does, close-on-exec.

    Args:
        path: The file.
        mode: ``r``, ``w``, ``x`` or ``a``, with ``+`` for both reading and writing; ``rw`` is ``r+``.
        perm: The permissions of a file that is created, before the umask is applied.

    Returns:
        The descriptor; you own it.

    Raises:
        CallFailed: open(2) failed (`NotFound`, `NotPermitted`, ...).
        ValueError: ``mode`` is none of these.
    """
    letters = "r+" if mode == "rw" else mode.replace("b", "")
    if letters.removesuffix("+") not in _BASE_FLAGS:
        raise ValueError(f"mode {mode!r} is unknown: use r, w, x or a, each also with +, or rw")
    both, reading = letters.endswith("+"), letters[0] == "r"
    access = os.O_RDWR if both else os.O_RDONLY if reading else os.O_WRONLY
    try:
        return Fd(os.open(path, access | _BASE_FLAGS[letters[0]] | os.O_CLOEXEC, perm))
    except OSError as error:
        raise translated(error, f"cannot open {os.fspath(path)}") from error


def _open_file(fd: Fd, mode: str = "r", **options: Any) -> IO[Any]:
    """Move the descriptor into a file object, which owns it from then on; this `Fd` is empty.

    Args:
        fd: The `Fd` whose method this is.
        mode: As for the built-in `open`.
        **options: As for the built-in `open`: ``buffering``, ``encoding``, ``errors``, ``newline``.

    Returns:
        The file object; closing it closes the descriptor.

    Raises:
        Closed: This `Fd` was closed or emptied before.
        ValueError: The mode or an option is wrong. This `Fd` keeps the descriptor.
        OSError: A file object cannot be made of the descriptor (of a directory, or of a pipe with ``r+``). This
            `Fd` keeps the descriptor.
    """
    # os.fdopen closes the number if it fails late, at a wrong encoding for instance. So the first attempt is made
    # with a file object that does not own the number.
    os.fdopen(fd.fileno(), mode, closefd=False, **options).close()
    file: IO[Any] = os.fdopen(fd.fileno(), mode, **options)
    fd.take()
    return file


class _Open:
    """Two methods in one name: `Fd.open(path)` opens a file; ``fd.open(mode)`` makes a file object of an `Fd`."""

    @overload
    def __get__(self, fd: None, owner: type[Fd]) -> Callable[..., Fd]: ...
    @overload
    def __get__(self, fd: Fd, owner: type[Fd]) -> Callable[..., IO[Any]]: ...
    def __get__(self, fd: Fd | None, owner: type[Fd]) -> Callable[..., Any]:
        if fd is None:
            return _open_path
        return _open_file.__get__(fd, owner)  # type: ignore[no-any-return]


class Fd:
    """An open descriptor that this object owns.

    Args:
        fd: The number of an open descriptor. This object owns it from then on: no other code may close it.

    Raises:
        NotADescriptor: ``fd`` is not a non-negative int.
    """

    __slots__ = ("__weakref__", "_fd")

    open = _Open()

    def __init__(self, fd: int) -> None:
        self._fd = -1
        if type(fd) is not int or fd < 0:
            raise NotADescriptor(f"Fd() takes the number of an open descriptor (an int, 0 or more), not {fd!r}")
        self._fd = fd

    def fileno(self) -> int:
        """The number, lent: this object still owns it.

        Raises:
            Closed: This `Fd` was closed or emptied before.
        """
        if self._fd < 0:
            raise Closed("this Fd is closed, or its descriptor was taken out: use a duplicate, made with dup()")
        return self._fd

    def take(self) -> int:
        """Take the number out: you own it from then on, and this object is empty.

        Raises:
            Closed: This `Fd` was closed or emptied before.
        """
        fd = self.fileno()
        self._fd = -1
        return fd

    def dup(self) -> Fd:
        """A duplicate, close-on-exec: a second descriptor of the same open file. You own it.

        Raises:
            Closed: This `Fd` was closed or emptied before.
            CallFailed: The descriptor table is full (EMFILE).
        """
        fd = self.fileno()
        try:
            return Fd(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0))
        except OSError as error:
            raise translated(error, f"cannot duplicate descriptor {fd}") from error

    def close(self) -> None:
        """Close the descriptor. A second call does nothing.

        Raises:
            OSError: close(2) reports that data was not written (EIO, ENOSPC, EDQUOT). The descriptor is closed.
        """
        fd, self._fd = self._fd, -1  # first: Linux frees the number even if close(2) fails
        if fd >= 0:
            os.close(fd)

    def socket(self) -> _socket.socket:
        """Move the descriptor into a socket object, which owns it from then on; this `Fd` is empty.

        The socket object asks the kernel for family, type and protocol: with a protocol of 0 asyncio would not
        set TCP_NODELAY, and each keep-alive answer would wait 40 ms.

        Raises:
            Closed: This `Fd` was closed or emptied before.
            CallFailed: The descriptor is no socket (ENOTSOCK). This `Fd` keeps it.
        """
        fd = self.fileno()
        try:
            sock = _socket.socket(fileno=fd)
        except OSError as error:
            kind = kind_of(fd) if error.errno == errno.ENOTSOCK else "not open"
            raise translated(error, f"cannot make a socket of descriptor {fd} ({kind})") from error
        self._fd = -1
        return sock

    @property
    def closed(self) -> bool:
        """True once this `Fd` is closed, or the number was taken out."""
        return self._fd < 0

    @property
    def kind(self) -> str:
        """What the descriptor refers to.

        One of file, dir, pipe, socket, listener, memfd, pidfd, eventfd, epoll, timerfd, signalfd, inotify,
        char, block, symlink (opened with O_PATH) and other; from fstat(2), SO_ACCEPTCONN and /proc/self/fd.

        Raises:
            Closed: This `Fd` was closed or emptied before.
            OSError: Other code has closed the number (EBADF).
        """
        return kind_of(self.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<Fd closed>" if self._fd < 0 else f"<Fd {self._fd}>"

    def __reduce__(self) -> Any:
        raise TypeError("an Fd can be pickled by multiprocessing only: send it with fdpass.send_fds")

    def __del__(self) -> None:
        if self._fd >= 0:
            text = f"{self!r} was forgotten, and is closed now: call close() or take()"
            warnings.warn(text, ResourceWarning, source=self, stacklevel=2)
            self.close()


def _from_multiprocessing(carried: Any) -> Fd:
    fd = Fd(carried.detach())
    os.set_inheritable(fd.fileno(), False)  # multiprocessing receives without MSG_CMSG_CLOEXEC
    return fd


def _for_multiprocessing(fd: Fd) -> tuple[Any, tuple[Any]]:
    return _from_multiprocessing, (reduction.DupFd(fd.fileno()),)  # lent: multiprocessing sends a duplicate


reduction.ForkingPickler.register(Fd, _for_multiprocessing)
