"""Unix sockets at an address: bound without stealing another's, connected patiently, unlinked by their owner."""

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
_LONGEST = 1e9  # seconds: what SO_SNDTIMEO surely takes


class SocketFile(NamedTuple):
    """Which file a bound socket made, and which process made it."""

    path: str
    device: int
    inode: int
    maker: int


def address_of(path: Address) -> bytes:
    """The address as bind(2) takes it. Raises InvalidMessage for what cannot be one."""
    raw = os.fsencode(path)
    if raw.startswith(b"@"):
        raw = b"\0" + raw[1:]
    if raw in {b"", b"\0"} or b"\0" in raw[1:]:
        raise InvalidMessage(
            f"{os.fspath(path)!r} is no address of a Unix socket: it is empty, or has a zero byte"
        )
    if len(raw) > 107:  # sun_path of unix(7), less the final zero
        raise InvalidMessage(
            f"{os.fspath(path)!r} has {len(raw)} bytes, and the address of a Unix socket has at most 107: "
            "take a shorter path, or one relative to the working directory"
        )
    return raw


def readable(name: str | bytes) -> str:
    """A socket's name as people write it, abstract ones with ``@``."""
    text = os.fsdecode(name)
    return "@" + text[1:] if text.startswith("\0") else text


@contextlib.contextmanager
def explained(path: Address, doing: str) -> Iterator[None]:
    """Turn what the system says into errors of fdpass that name the address."""
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
                91, f"{where}: the socket there is of another type; pass the listener's type"
            ) from error
        raise translated(error, where) from error


def new_socket(type: str) -> socket.socket:  # noqa: A002
    """A Unix socket, close-on-exec, blocking. Raises InvalidMessage for an unknown type."""
    if type not in TYPES:
        raise InvalidMessage(f"the type of a socket is 'seqpacket' or 'stream', not {type!r}")
    sock = socket.socket(socket.AF_UNIX, TYPES[type])
    sock.settimeout(None)  # whatever socket.setdefaulttimeout() says
    return sock


# Listening


def bound_socket(path: Address, type: str, mode: int, backlog: int) -> socket.socket:  # noqa: A002
    """A listening socket: see `fdpass.listen`, whose errors it raises."""
    address = address_of(path)
    if not 0 <= mode <= 0o777:
        raise InvalidMessage(f"mode {mode:#o} is not between 0 and 0o777: permissions are written in octal")
    sock = new_socket(type)
    try:
        with explained(path, "cannot listen at"):
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
        # Two servers that start at once could both find a stale file, and one remove the other's fresh socket.
        fcntl.flock(directory, fcntl.LOCK_EX)
        _remove_stale(path)
        os.fchmod(sock.fileno(), mode)  # bind(2) makes the file with this, less the umask: never more open
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
            f"cannot listen at {path}: it is there, and no socket; remove it, or take another path",
        )
    # A datagram socket finds whoever is bound there, of any type (EPROTOTYPE) and before it listens, and puts
    # no connection in its queue.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            if error.errno not in {
                errno.EPERM,
                errno.EPROTOTYPE,
            }:  # EPERM: a datagram socket that is connected elsewhere
                raise
    raise AddressInUse(errno.EADDRINUSE, f"cannot listen at {path}: somebody listens there already")


def _set_mode(path: str, mode: int) -> None:
    """Give our fresh file exactly this mode, umask or not, and nothing that took its place."""
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(file).st_mode
        if stat.S_ISSOCK(found) and stat.S_IMODE(found) != mode:
            os.chmod(f"/proc/self/fd/{file}", mode)  # fchmod(2) refuses O_PATH descriptors
    finally:
        os.close(file)


def identity_of(name: str | bytes) -> SocketFile | None:
    """The file behind the name of a socket that this process bound; None for an abstract name, or none."""
    if isinstance(name, bytes) or not name:
        return None
    try:
        found = os.lstat(name)
    except OSError:
        return None
    return SocketFile(os.path.abspath(name), found.st_dev, found.st_ino, os.getpid())


def unlink_own(sock: socket.socket, file: SocketFile | None) -> None:
    """Remove the file of a socket that is still open, unless it is another's by now, or we are a fork.

    An open socket holds its inode, so that no other file can have the inode's number; and while it is open no
    `bound_socket` takes the file for stale.
    """
    if file is not None and sock.fileno() >= 0 and identity_of(file.path) == file:
        with contextlib.suppress(OSError):
            os.unlink(file.path)


def accepted(sock: socket.socket) -> socket.socket | None:
    """One accept(2): None if the client went away first. Raises OSError."""
    try:
        found, _ = sock.accept()
    except ConnectionAbortedError:
        return None
    if found.gettimeout() is not None:  # socket.setdefaulttimeout(), which is not for channels
        found.settimeout(None)
    return found


# Connecting


def connected_socket(path: Address, type: str, timeout: float | None = None) -> socket.socket:  # noqa: A002
    """A connected socket that blocks: see `fdpass.connect`, whose errors it raises."""
    address = address_of(path)
    if timeout is not None and not timeout >= 0:
        raise InvalidMessage("a timeout is 0 or more seconds, or None")
    sock = new_socket(type)
    try:
        with explained(path, "cannot connect to"):
            _connect(sock, address, None if timeout is None else time.monotonic() + timeout)
    except BlockingIOError as error:
        sock.close()
        raise Timeout(
            f"cannot connect to {readable(os.fspath(path))}: the listener's backlog stayed full"
        ) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, address: bytes, deadline: float | None) -> None:
    while True:
        # With O_NONBLOCK, connect(2) to a full backlog fails at once, and no event tells of room: SO_SNDTIMEO
        # is what bounds its waiting.
        if deadline is not None:
            _set_send_timeout(sock, max(deadline - time.monotonic(), 1e-6))
        sock.connect(address)
        try:
            sock.getpeername()
        except OSError as error:
            # After EINTR CPython believes that the connection goes on in the background. A Unix socket's does not.
            if error.errno != 107:  # ENOTCONN
                raise
        else:
            break
    if deadline is not None:
        _set_send_timeout(sock, 0)  # 0: no bound


def _set_send_timeout(sock: socket.socket, seconds: float) -> None:
    timeval = divmod(round(min(seconds, _LONGEST) * 1_000_000), 1_000_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(*timeval))
