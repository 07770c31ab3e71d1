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
from collections.abc import Iterator
from typing import NamedTuple

from fdpass._errors import AddressInUse, CallFailed, Closed, FdpassError, InvalidMessage, Timeout, translated
from fdpass._pair import TYPES

Address = str | os.PathLike[str]
_TIMEVAL = struct.Struct("@ll")
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
    """Make a Unix socket, close-on-exec and blocking. Raises InvalidMessage for an unknown type."""
    if type not in TYPES:
        raise InvalidMessage(f"the type of a socket is 'seqpacket' or 'stream', not {type!r}")
    sock = socket.socket(socket.AF_UNIX, TYPES[type])
    sock.settimeout(None)  # socket.setdefaulttimeout() must not apply to channels
    return sock


# Listening


def bound_socket(path: Address, type: str, mode: int, backlog: int) -> socket.socket:  # noqa: A002
    """Make a listening socket, which the caller owns. Parameters and errors: see `fdpass.listen`."""
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
                _listen_at_file(sock, os.fsdecode(address), mode, backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_at_file(sock: socket.socket, path: str, mode: int, backlog: int) -> None:
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Without the lock, two servers that start at the same time could both find a stale file, and the second
        # remove the new socket of the first.
        fcntl.flock(directory, fcntl.LOCK_EX)
        _remove_stale(path)
        os.fchmod(sock.fileno(), mode)  # bind(2) makes the file with this mode less the umask, so never with more
        sock.bind(path)
        try:
            _set_mode(path, mode)
            sock.listen(backlog)
        except BaseException:
            os.unlink(path)
            raise
    finally:
        os.close(directory)


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
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
            os.unlink(path)
            return
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
    """One accept(2): the connection, which the caller owns; None if the client ended it first. Raises OSError."""
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
    if timeout is not None and not timeout >= 0:
        raise InvalidMessage(f"a timeout is a number of seconds, 0 or more, or None: not {timeout!r}")
    sock = new_socket(type)
    try:
        with translating_errors(path, "cannot connect to"):
            _connect(sock, address, None if timeout is None else time.monotonic() + timeout)
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
