"""`Fd`: one owned descriptor, closed exactly once.

Whoever holds an `Fd` owns what is in it and must `close` it, `take` the number out, or hand it to a file
object or a socket. What is forgotten is closed all the same, with a `ResourceWarning`.
"""

from __future__ import annotations

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
    """The kind of a descriptor by its file mode and its link in /proc/PID/fd; a listener is a socket here."""
    if link in _BY_LINK:
        return _BY_LINK[link]
    if link.startswith("pidfd:"):  # pidfds have a file system of their own since Linux 6.9
        return "pidfd"
    if stat.S_ISREG(mode):
        return "other" if link.startswith("anon_inode:") else "memfd" if link.startswith("/memfd:") else "file"
    return _BY_MODE.get(stat.S_IFMT(mode), "other")


def kind_of(fd: int) -> str:
    """What a descriptor of this process refers to: see `Fd.kind`."""
    kind = kind_from(os.fstat(fd).st_mode, os.readlink(f"/proc/self/fd/{fd}"))
    if kind == "socket":
        sock = _socket.socket(fileno=fd)
        try:
            return "listener" if sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN) else "socket"
        finally:
            sock.detach()  # it was only lent
    return kind


def _open_path(path: str | os.PathLike[str], mode: str = "r", *, perm: int = 0o666) -> Fd:
    """Open a file as `open` would, close-on-exec, and own the descriptor.

    Args:
        path: The file.
        mode: ``r``, ``w``, ``x`` or ``a``, with ``+`` for both reading and writing; ``rw`` is ``r+``.
        perm: Permissions of a file that is created, less the umask.

    Raises:
        CallFailed: open(2) failed (`NotFound`, `NotPermitted`, ...).
        ValueError: ``mode`` is none of these.
    """
    letters = "r+" if mode == "rw" else mode.replace("b", "")
    if letters.removesuffix("+") not in _BASE_FLAGS:
        raise ValueError(f"mode {mode!r} is none of r, w, x, a, these with +, or rw")
    both, reading = letters.endswith("+"), letters[0] == "r"
    access = os.O_RDWR if both else os.O_RDONLY if reading else os.O_WRONLY
    try:
        return Fd(os.open(path, access | _BASE_FLAGS[letters[0]] | os.O_CLOEXEC, perm))
    except OSError as error:
        raise translated(error, f"cannot open {os.fspath(path)}") from error


def _open_file(fd: Fd, mode: str = "r", **options: Any) -> IO[Any]:
    """A file object that owns the descriptor from now on; this `Fd` is empty.

    Args:
        fd: Whose method this is.
        mode: As of the built-in `open`.
        **options: As of the built-in `open`: ``buffering``, ``encoding``, ``errors``, ``newline``.

    Raises:
        Closed: It was closed or taken before.
        ValueError: The mode does not exist. The descriptor stays here.
        OSError: Not a thing to open as a file (a directory, say). The descriptor stays here.
    """
    # os.fdopen leaves the number alone when it fails: only its success moves the ownership.
    file: IO[Any] = os.fdopen(fd.fileno(), mode, **options)
    fd.take()
    return file


class _Open:
    """`Fd.open(path)` makes an `Fd`; ``fd.open(mode)`` of an instance makes a file object of it."""

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
        fd: The number of an open descriptor. From now on this object closes it: nobody else may.

    Raises:
        NotADescriptor: ``fd`` is not a non-negative int.
    """

    __slots__ = ("__weakref__", "_fd")

    open = _Open()

    def __init__(self, fd: int) -> None:
        self._fd = -1
        if type(fd) is not int or fd < 0:
            raise NotADescriptor(f"Fd() takes the number of an open descriptor, not {fd!r}")
        self._fd = fd

    def fileno(self) -> int:
        """The number, lent: it stays this object's to close.

        Raises:
            Closed: It was closed or taken before.
        """
        if self._fd < 0:
            raise Closed("this Fd was closed, or its descriptor was taken out")
        return self._fd

    def take(self) -> int:
        """Take the number out: you own it now, and this object is empty.

        Raises:
            Closed: It was closed or taken before.
        """
        fd = self.fileno()
        self._fd = -1
        return fd

    def dup(self) -> Fd:
        """A second owned descriptor, close-on-exec, of the same open file description.

        Raises:
            Closed: It was closed or taken before.
            CallFailed: No free descriptor slot (EMFILE).
        """
        fd = self.fileno()
        try:
            return Fd(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0))
        except OSError as error:
            raise translated(error, f"cannot duplicate descriptor {fd}") from error

    def close(self) -> None:
        """Close it. A second call does nothing."""
        fd, self._fd = self._fd, -1  # -1 first: whatever close() says, this number is no longer ours
        if fd >= 0:
            os.close(fd)

    def socket(self) -> _socket.socket:
        """A socket object that owns the descriptor from now on; this `Fd` is empty.

        Family, type and protocol are asked of the kernel: with a protocol of 0 asyncio would not set
        TCP_NODELAY, and each keep-alive answer would wait 40 ms.

        Raises:
            Closed: It was closed or taken before.
            CallFailed: It is no socket (ENOTSOCK). The descriptor stays here.
        """
        fd = self.fileno()
        try:
            sock = _socket.socket(fileno=fd)
        except OSError as error:
            raise translated(error, f"descriptor {fd} ({self.kind})") from error
        self._fd = -1
        return sock

    @property
    def closed(self) -> bool:
        """True once it was closed, or the number was taken out."""
        return self._fd < 0

    @property
    def kind(self) -> str:
        """What it refers to.

        One of file, dir, pipe, socket, listener, memfd, pidfd, eventfd, epoll, timerfd, signalfd, inotify,
        char, block, symlink (opened with O_PATH) and other; from fstat(2), SO_ACCEPTCONN and /proc/self/fd.

        Raises:
            Closed: It was closed or taken before.
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
        raise TypeError("an Fd can be pickled by multiprocessing only; elsewhere, send it with fdpass.send_fds")

    def __del__(self) -> None:
        if self._fd >= 0:
            warnings.warn(f"forgotten: {self!r}; close it, or take it", ResourceWarning, source=self, stacklevel=2)
            self.close()


def _from_multiprocessing(carried: Any) -> Fd:
    fd = Fd(carried.detach())
    os.set_inheritable(fd.fileno(), False)  # multiprocessing receives without MSG_CMSG_CLOEXEC
    return fd


def _for_multiprocessing(fd: Fd) -> tuple[Any, tuple[Any]]:
    return _from_multiprocessing, (reduction.DupFd(fd.fileno()),)  # lent: the sender keeps its own


reduction.ForkingPickler.register(Fd, _for_multiprocessing)
