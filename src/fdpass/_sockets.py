"""Unix sockets at an address: binding that replaces only stale socket files, connecting, accepting, unlinking."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import time
from collections.abc import Generator, Iterator
from typing import NamedTuple

from fdpass._errors import (
    AddressInUse,
    CallFailed,
    Closed,
    FdpassError,
    InvalidMessage,
    NotFound,
    Timeout,
    translated,
)
from fdpass._fd import opened
from fdpass._pair import TYPES
from fdpass._waiting import check_timeout, deadline_of

Address = str | os.PathLike[str]
_TIMEVAL = struct.Struct("@ll")
_LOCK_MAX, _LOCK_PAUSE = 1.0, 0.01  # seconds
_LONGEST = 1e9  # seconds: SO_SNDTIMEO takes this on every kernel


class SocketFile(NamedTuple):
    """The file that a bound socket made, and the process that made it."""

    path: str
    device: int
    inode: int
    maker: int


def address_of(path: Address) -> bytes:
    """The address as bind(2) takes it. Raises InvalidMessage if it cannot be an address."""
    raw = os.fsencode(path)
    if raw.startswith(b"@"):
        raw = b"\0" + raw[1:]
    if raw in {b"", b"\0"} or b"\0" in raw[1:]:
        raise InvalidMessage(
            f"{os.fspath(path)!r} is no address of a Unix socket: it is empty, or contains a zero byte"
        )
    if len(raw) > 107:  # sun_path of unix(7), less the final zero
        raise InvalidMessage(
            f"{os.fspath(path)!r} has {len(raw)} bytes, but the address of a Unix socket has at most 107: "
            "use a shorter path, or one relative to the working directory"
        )
    return raw


def readable(name: str | bytes) -> str:
    """A socket's address as `address_of` takes it: an abstract one starts with ``@``."""
    text = os.fsdecode(name)
    return "@" + text[1:] if text.startswith("\0") else text


@contextlib.contextmanager
def translating_errors(path: Address, doing: str) -> Iterator[None]:
    """Translate each OSError in the block into an error of fdpass that names the address."""
    try:
        yield
    except FdpassError:
        raise
    except OSError as error:
        where = f"{doing} {readable(os.fspath(path))}"
        if error.errno == errno.EBADF:
            raise Closed("this listener is closed") from error
        if error.errno == errno.EPROTOTYPE:
            raise CallFailed(
                error.errno, f"{where}: the socket there is of another type; pass the listener's type"
            ) from error
        raise translated(error, where) from error


def new_socket(type: str) -> socket.socket:  # noqa: A002
    """Make a Unix socket, close-on-exec and blocking.

    Raises:
        InvalidMessage: The type is unknown.
        CallFailed: No descriptor slot is free (EMFILE).
    """
    if type not in TYPES:
        raise InvalidMessage(f"the type of a socket is 'seqpacket' or 'stream', not {type!r}")
    try:
        sock = socket.socket(socket.AF_UNIX, TYPES[type])
    except OSError as error:
        raise translated(error, "cannot make a socket") from error
    sock.settimeout(None)  # socket.setdefaulttimeout() must not apply to channels
    return sock


# Listening


def bound_socket(path: Address, type: str, mode: int, backlog: int) -> socket.socket:  # noqa: A002
    """Make a listening socket, which the caller owns. Parameters and errors: see `fdpass.listen`."""
    steps = binding(path, type, mode, backlog)
    while True:
        try:
            time.sleep(next(steps))
        except StopIteration as done:
            sock: socket.socket = done.value
            return sock


def binding(
    path: Address,
    type: str,  # noqa: A002
    mode: int,
    backlog: int,
) -> Generator[float, None, socket.socket]:
    """`bound_socket` as a generator: it yields how many seconds to wait, and returns the socket."""
    address = address_of(path)
    if not 0 <= mode <= 0o777:
        raise InvalidMessage(f"mode {mode:#o} is not between 0 and 0o777: write permissions in octal")
    sock = new_socket(type)
    try:
        with translating_errors(path, "cannot listen at"):
            if address.startswith(b"\0"):
                sock.bind(address)
                sock.listen(backlog)
            else:
                yield from bound_at_file(sock, os.fsdecode(address), mode, backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def bound_at_file(sock: socket.socket, path: str, mode: int, backlog: int | None) -> Iterator[float]:
    """Bind a socket to a file, and let it listen unless ``backlog`` is None; yields how many seconds to wait."""
    with contextlib.ExitStack() as held:
        if _is_stale(path):
            # Without the lock, two servers that start at the same time could both find a stale file, and the
            # second remove the new socket of the first. Where there is no file, bind(2) decides between them.
            yield from locking_directory(path, held)
            if _is_stale(path):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        os.fchmod(sock.fileno(), mode)  # bind(2) makes the file with this mode less the umask, so never with more
        try:
            sock.bind(path)
        except FileNotFoundError as error:
            where, folder = readable(path), readable(os.path.dirname(path))
            raise NotFound(error.errno, f"cannot listen at {where}: there is no folder {folder}") from None
        try:
            _set_mode(path, mode)
            if backlog is not None:
                sock.listen(backlog)
        except BaseException:
            os.unlink(path)
            raise


def locking_directory(path: str, held: contextlib.ExitStack) -> Iterator[float]:
    """Lock the file's directory for as long as ``held`` is open, if that can be done within `_LOCK_MAX` seconds.

    Another server holds the lock for microseconds. But every process that may read the directory can hold it for
    ever, and must not keep this one from listening.
    """
    try:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # the directory permits files to be made, but not to be listed
        return
    held.callback(os.close, directory)
    deadline = time.monotonic() + _LOCK_MAX
    while True:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return
            yield _LOCK_PAUSE
        except OSError:  # ENOLCK, EOPNOTSUPP: a file system without locks
            return
        else:
            # close(2) alone leaves the lock to a child that was forked meanwhile
            held.callback(fcntl.flock, directory, fcntl.LOCK_UN)
            return


def _is_stale(path: str) -> bool:
    """Whether a socket file is there that no socket has; False if no file is there.

    Raises:
        AddressInUse: The file is no socket, or one that a program has.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(found.st_mode):
        raise AddressInUse(
            errno.EADDRINUSE,
            f"cannot listen at {path}: the file exists, and is no socket; remove it, or use another path",
        )
    # Connecting a datagram socket finds a socket of any type that is bound there, even before listen(2), and adds
    # nothing to its backlog. EPROTOTYPE: of another type. EPERM: a datagram socket that is connected elsewhere.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except FileNotFoundError:  # its owner has just removed it
            return False
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EPROTOTYPE}:
                raise
    raise AddressInUse(
        errno.EADDRINUSE,
        f"cannot listen at {path}: another process listens there already; stop it, or use another path",
    )


def _set_mode(path: str, mode: int) -> None:
    """Give the new socket file exactly this mode, despite the umask; a file that took its place is left alone."""
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(file).st_mode
        if stat.S_ISSOCK(found) and stat.S_IMODE(found) != mode:
            os.chmod(f"/proc/self/fd/{file}", mode)  # fchmod(2) refuses O_PATH descriptors
    except FileNotFoundError as error:
        raise CallFailed(
            errno.ENOENT, f"cannot give {path} the mode {mode:#o}: /proc is missing, and the umask takes bits away"
        ) from error
    finally:
        os.close(file)


def identity_of(name: str | bytes) -> SocketFile | None:
    """The file of a socket that this process bound; None if the socket has an abstract name, or none."""
    if isinstance(name, bytes) or not name:
        return None
    try:
        found = os.lstat(name)
    except OSError:
        return None
    return SocketFile(os.path.abspath(name), found.st_dev, found.st_ino, os.getpid())


def unlink_own(sock: socket.socket, file: SocketFile | None) -> None:
    """Remove the file of a socket that is still open, if the file is still this socket's and this process made it.

    An open socket keeps its inode, so no other file can have the inode's number. While the socket is open, no
    `bound_socket` considers the file stale. In a forked child the pid differs.
    """
    if file is not None and sock.fileno() >= 0 and identity_of(file.path) == file:
        with contextlib.suppress(OSError):
            os.unlink(file.path)


def accepted(sock: socket.socket) -> socket.socket | None:
    """One accept(2): the connection, which the caller owns; None if the client ended it first. Raises OSError.

    It needs two free descriptor slots: with one, the connection would be accepted, and then be closed because the
    peer's pidfd has no room. So it waits in the backlog.
    """
    with opened(os.dup, sock.fileno()):
        try:
            connection, _ = sock.accept()
        except ConnectionAbortedError:
            return None
    if connection.gettimeout() is not None:  # socket.setdefaulttimeout() must not apply to channels
        connection.settimeout(None)
    return connection


# Connecting


def connected_socket(path: Address, type: str, timeout: float | None = None) -> socket.socket:  # noqa: A002
    """Make a connected socket that blocks; the caller owns it. Parameters and errors: see `fdpass.connect`."""
    address = address_of(path)
    check_timeout(timeout)
    sock = new_socket(type)
    try:
        with translating_errors(path, "cannot connect to"):
            _connect(sock, address, deadline_of(timeout))
    except BlockingIOError as error:
        sock.close()
        raise Timeout(
            f"cannot connect to {readable(os.fspath(path))}: timed out, because the listener's backlog stayed full"
        ) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, address: bytes, deadline: float | None) -> None:
    while True:
        # SO_SNDTIMEO limits how long connect(2) waits for room in the backlog. With O_NONBLOCK it would fail at
        # once, and no event tells when there is room.
        if deadline is not None:
            _set_send_timeout(sock, max(deadline - time.monotonic(), 1e-6))
        sock.connect(address)
        try:
            sock.getpeername()
        except OSError as error:
            # After EINTR CPython assumes that the kernel goes on connecting, which it does not for a Unix socket.
            if error.errno != errno.ENOTCONN:
                raise
        else:
            break
    if deadline is not None:
        _set_send_timeout(sock, 0)  # 0: no limit


def _set_send_timeout(sock: socket.socket, seconds: float) -> None:
    timeval = divmod(round(min(seconds, _LONGEST) * 1_000_000), 1_000_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(*timeval))
