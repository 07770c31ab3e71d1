"""`Fd`: one owned descriptor, closed exactly once.

The code that holds an `Fd` owns its descriptor, and must `close` it, `take` the number out, or move it into a
file object or a socket. An `Fd` that is forgotten closes its descriptor too, with a `ResourceWarning`.
"""

from __future__ import annotations

import fcntl
import os
import socket as _socket
import warnings
from collections.abc import Callable
from multiprocessing import reduction
from types import TracebackType
from typing import IO, Any, BinaryIO, Literal, NoReturn, Protocol, Self, TextIO, TypedDict, Unpack, overload

from fdpass._errors import CallFailed, Closed, NotADescriptor, translated
from fdpass._kinds import Kind, kind_of

_BASE_FLAGS = {
    "r": 0,
    "w": os.O_CREAT | os.O_TRUNC,
    "x": os.O_CREAT | os.O_EXCL,
    "a": os.O_CREAT | os.O_APPEND,
}


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
        return opened(os.open, path, access | _BASE_FLAGS[letters[0]] | os.O_CLOEXEC, perm)
    except OSError as error:
        raise translated(error, f"cannot open {os.fspath(path)}") from error


class _FileOptions(TypedDict, total=False):
    buffering: int
    encoding: str | None
    errors: str | None
    newline: str | None


def _open_file(fd: Fd, mode: str = "r", **options: Unpack[_FileOptions]) -> IO[Any]:
    """Move the descriptor into a file object, which owns it from then on; this `Fd` is empty.

    Args:
        fd: The `Fd` whose method this is.
        mode: As for the built-in `open`.
        **options: As for the built-in `open`: ``buffering``, ``encoding``, ``errors``, ``newline``.

    Returns:
        The file object; closing it closes the descriptor.

    Raises:
        Closed: This `Fd` was closed or emptied before.
        TypeError: There is no such option. ``closefd`` is none: the file object always owns the descriptor.
        ValueError: The mode or an option is wrong. This `Fd` keeps the descriptor.
        OSError: A file object cannot be made of the descriptor (of a directory, or of a pipe with ``r+``). This
            `Fd` keeps the descriptor.
    """
    unknown = options.keys() - _FileOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"open() of an Fd has no option {min(unknown)!r}: the file object owns the descriptor")
    # os.fdopen closes the number if it fails late, at a wrong encoding for instance. So the first attempt is made
    # with a file object that does not own the number.
    os.fdopen(fd.fileno(), mode, closefd=False, **options).close()
    file: IO[Any] = os.fdopen(fd.fileno(), mode, **options)
    fd.take()
    return file


_Text = Literal["r", "w", "a", "x", "r+", "w+", "a+", "x+", "rt", "wt", "at", "xt", "rt+", "wt+", "at+", "xt+"]
_Binary = Literal["rb", "wb", "ab", "xb", "rb+", "wb+", "ab+", "xb+", "r+b", "w+b", "a+b", "x+b"]
_Path = str | os.PathLike[str]


class _PathOpener(Protocol):
    def __call__(self, path: _Path, mode: str = "r", *, perm: int = 0o666) -> Fd: ...


class _FileOpener(Protocol):
    @overload
    def __call__(self, mode: _Text = "r", **options: Unpack[_FileOptions]) -> TextIO: ...
    @overload
    def __call__(self, mode: _Binary, **options: Unpack[_FileOptions]) -> BinaryIO: ...
    @overload
    def __call__(self, mode: str, **options: Unpack[_FileOptions]) -> IO[Any]: ...


class _Open:
    """Two methods in one name: `Fd.open(path)` opens a file; ``fd.open(mode)`` makes a file object of an `Fd`."""

    @overload
    def __get__(self, fd: None, owner: type[Fd]) -> _PathOpener: ...
    @overload
    def __get__(self, fd: Fd, owner: type[Fd]) -> _FileOpener: ...
    def __get__(self, fd: Fd | None, owner: type[Fd]) -> Any:
        return _open_path if fd is None else _open_file.__get__(fd, owner)


class Fd:
    """An open descriptor that this object owns.

    multiprocessing sends a duplicate when it pickles an `Fd`: a ``Connection`` and a ``SimpleQueue`` at once,
    a ``Queue`` in a thread, after ``put`` has returned. Keep the `Fd` open until the receiver has it.

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
            return opened(fcntl.fcntl, fd, fcntl.F_DUPFD_CLOEXEC, 0)
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
            raise translated(error, f"cannot make a socket of descriptor {fd} ({_seen(fd)})") from error
        self._fd = -1
        return sock

    @property
    def closed(self) -> bool:
        """True once this `Fd` is closed, or the number was taken out."""
        return self._fd < 0

    @property
    def kind(self) -> Kind:
        """What the descriptor refers to. Asking changes nothing.

        One of file, dir, pipe, socket, listener, memfd, pidfd, eventfd, epoll, timerfd, signalfd, inotify,
        char, block, symlink (opened with O_PATH) and other; from fstat(2) and SO_ACCEPTCONN. Only the kinds from
        pidfd to inotify take /proc, too.

        Raises:
            Closed: This `Fd` was closed or emptied before.
            BadDescriptor: Other code has closed the number.
            CallFailed: There is no /proc (ENOENT), as in a chroot; or no descriptor slot is free to tell a memfd
                from a file without a name, for the first time in this process (EMFILE).
        """
        fd = self.fileno()
        try:
            return kind_of(fd)
        except FileNotFoundError as error:
            raise CallFailed(error.errno, f"cannot tell the kind of descriptor {fd}: /proc is missing") from error
        except OSError as error:
            raise translated(error, f"cannot tell the kind of descriptor {fd}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<Fd closed>" if self._fd < 0 else f"<Fd {self._fd}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an Fd cannot be copied, and can be pickled by multiprocessing only: use dup(), or fdpass.send_fds"
        )

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:  # a signal handler that raises can end __init__ before its first line
            text = f"{self!r} was forgotten, and is closed now: call close() or take()"
            try:
                warnings.warn(text, ResourceWarning, source=self, stacklevel=2)
            finally:  # with -W error the warning is raised
                self.close()


def opened(call: Callable[..., int], *arguments: Any) -> Fd:
    """Make a call that opens a descriptor, and own the descriptor from its first moment.

    Python runs signal handlers after each call. If one raises between the two calls of ``Fd(os.open(...))``, as
    Ctrl-C does, the descriptor stays open, and is nobody's. Here the instruction that unpacks makes the call, and
    the next one stores the number: Python runs no handler between these.

    Args:
        call: A function in C.
        *arguments: What it is called with.

    Raises:
        OSError: The call failed.
    """
    fd = Fd.__new__(Fd)
    fd._fd = -1  # noqa: SLF001 - of this module
    (fd._fd,) = map(call, *zip(arguments, strict=True))  # noqa: SLF001 - likewise
    return fd


def _seen(fd: int) -> str:
    """What an error says of a descriptor that is no socket."""
    try:
        kind = kind_of(fd)
    except OSError:
        return "not open"
    return "opened with O_PATH" if kind == "socket" else kind


def _from_multiprocessing(carried: Any) -> Fd:
    fd = Fd(carried.detach())
    os.set_inheritable(fd.fileno(), False)  # multiprocessing receives without MSG_CMSG_CLOEXEC
    return fd


def _for_multiprocessing(fd: Fd) -> tuple[Any, tuple[Any]]:
    if fd.closed:
        raise Closed(
            "this Fd was closed before multiprocessing sent it: a Queue sends it after put() has returned: keep "
            "it open until the receiver has it, or use a SimpleQueue"
        )
    return _from_multiprocessing, (reduction.DupFd(fd.fileno()),)  # lent: multiprocessing sends a duplicate


reduction.ForkingPickler.register(Fd, _for_multiprocessing)
