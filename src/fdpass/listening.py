"""`listen` and `connect`: channels between programs that find each other by an address. Blocking."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from fdpass._pair import TYPES, SocketType
from fdpass.channel import Channel
from fdpass.errors import (
    AddressInUse,
    CallFailed,
    Closed,
    FdpassError,
    InvalidMessage,
    PeerClosed,
    translated,
)
from fdpass.peer import Peer, Rule, same_user

log = logging.getLogger("fdpass")
Address = str | os.PathLike[str]


def listen(
    path: Address,
    *,
    mode: int = 0o600,
    allow: Rule | None = None,
    type: SocketType = "seqpacket",  # noqa: A002
    backlog: int = 128,
    **channel_options: Any,
) -> Listener:
    """Listen for channels.

    A socket file that nobody listens behind is replaced; a live one is not.

    Args:
        path: A path of at most 107 bytes, or ``"@name"`` for an abstract address.
        mode: Permissions of the socket file, whatever the umask: who may connect needs ``w``.
        allow: Who may, asked before anything is read from the peer: a function of `Peer`, or `Allow`. By
            default our own user and root.
        type: ``"seqpacket"`` or ``"stream"``.
        backlog: How many connections may wait to be accepted.
        **channel_options: As of `Channel`, for each accepted one.

    Raises:
        AddressInUse: Somebody listens there already, or the path is something else than a socket.
        InvalidMessage: The address is too long, or the type unknown.
        CallFailed: bind(2) or listen(2) failed (`NotPermitted`, `NotFound`, ...).
    """
    return Listener(bound_socket(path, type, mode, backlog), allow=allow, **channel_options)


def connect(
    path: Address,
    *,
    type: SocketType = "seqpacket",  # noqa: A002
    timeout: float | None = None,
    **channel_options: Any,
) -> Channel:
    """Connect to a `Listener`.

    Args:
        path: As of `listen`.
        type: As the listener's.
        timeout: Seconds to wait while the listener's backlog is full; None for ever.
        **channel_options: As of `Channel`.

    Raises:
        NotFound: There is no such socket file.
        NotListening: Nobody listens behind it.
        NotPermitted: Its mode does not admit you.
        Timeout: Its backlog stayed full.
        CallFailed: connect(2) failed for another reason: EPROTOTYPE, for instance, if the type is another.
    """
    sock = new_socket(type)
    try:
        sock.settimeout(timeout)
        with explained(path, "cannot connect to"):
            sock.connect(address_of(path))
        sock.settimeout(None)
        return Channel(sock, **channel_options)
    except BaseException:
        sock.close()
        raise


class Listener:
    """Accepts channels from whoever the rule admits.

    Args:
        sock: A listening Unix socket; the listener owns it now.
        allow: As of `listen`.
        **channel_options: As of `Channel`, for each accepted one.
    """

    def __init__(self, sock: socket.socket, *, allow: Rule | None = None, **channel_options: Any) -> None:
        self._sock = sock
        self._allow = allow or same_user
        self._options = channel_options
        self._identity = identity_of(sock.getsockname())

    def accept(self) -> Channel:
        """The next channel whose peer is admitted. Those that are not are closed, unread, and logged.

        Raises:
            Timeout: Time ran out.
            Closed: The listener is closed.
            CallFailed: accept(2) failed: EMFILE, for instance. The listener stays usable.
        """
        while True:
            with explained(self.address, "cannot accept at"):
                sock = accepted(self._sock)
            if sock is not None and admitted(sock, self._allow):
                return Channel(sock, **self._options)

    def __iter__(self) -> Iterator[Channel]:
        """Channels, until the listener is closed."""
        while self.fileno() >= 0:
            yield self.accept()

    def settimeout(self, seconds: float | None) -> None:
        """Bound each later `accept`: seconds, or None for ever."""
        self._sock.settimeout(seconds)

    @property
    def address(self) -> str:
        """Where it listens, as `connect` takes it; "" once closed."""
        return "" if self.fileno() < 0 else readable(self._sock.getsockname())

    def fileno(self) -> int:
        """The socket's number, lent: for poll(2). -1 once closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Stop listening, and remove the socket file if it is still ours. Twice does nothing."""
        if self.fileno() >= 0:
            unlink_own(self._sock, self._identity)
            self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


# What the blocking and the async listener share


def new_socket(type: str) -> socket.socket:  # noqa: A002
    """A Unix socket, close-on-exec. Raises InvalidMessage for an unknown type."""
    if type not in TYPES:
        raise InvalidMessage(f"the type of a socket is 'seqpacket' or 'stream', not {type!r}")
    return socket.socket(socket.AF_UNIX, TYPES[type])


def bound_socket(path: Address, type: str, mode: int, backlog: int) -> socket.socket:  # noqa: A002
    """A listening socket: see `listen`, whose errors it raises."""
    address = address_of(path)
    sock = new_socket(type)
    try:
        with explained(path, "cannot listen at"):
            if address.startswith(b"\0"):
                sock.bind(address)
            else:
                _bind_file(sock, os.fsdecode(address), mode)
            sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_file(sock: socket.socket, path: str, mode: int) -> None:
    # The directory's lock keeps two starting servers from removing each other's fresh socket as stale.
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        _remove_stale(sock, path)
        os.fchmod(sock.fileno(), mode)  # before bind: the file is never more open than this
        sock.bind(path)
        os.chmod(path, mode)  # and now without the umask
    finally:
        os.close(directory)


def _remove_stale(sock: socket.socket, path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise AddressInUse(
            98, f"cannot listen at {path}: it is there, and no socket; remove it, or take another path"
        )
    with socket.socket(socket.AF_UNIX, sock.type) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            if error.errno not in {11, 91}:  # EAGAIN: a full backlog. EPROTOTYPE: of another type. Both are alive
                raise
    raise AddressInUse(98, f"cannot listen at {path}: somebody listens there already")


def address_of(path: Address) -> bytes:
    """The address as bind(2) takes it. Raises InvalidMessage for what cannot be one."""
    raw = os.fsencode(path)
    if raw.startswith(b"@"):
        raw = b"\0" + raw[1:]
    if len(raw) > 107 or raw in {b"", b"\0"} or b"\0" in raw[1:]:  # sun_path of unix(7), less the final zero
        raise InvalidMessage(f"{os.fspath(path)!r} is no address of a Unix socket: 1 to 107 bytes, without zeros")
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
        if error.errno == 9:  # EBADF
            raise Closed("this listener is closed") from error
        if error.errno == 91:  # EPROTOTYPE
            raise CallFailed(
                91, f"{where}: the socket there is of another type; pass the listener's type"
            ) from error
        raise translated(error, where) from error


def accepted(sock: socket.socket) -> socket.socket | None:
    """One accept(2): None if the client went away first. Raises OSError."""
    try:
        found, _ = sock.accept()
    except ConnectionAbortedError:
        return None
    return found


def admitted(sock: socket.socket, allow: Rule) -> bool:
    """Ask the rule about a fresh connection; one that it does not admit is closed, unread."""
    try:
        with Peer.of(sock) as peer:
            if allow(peer):
                return True
            log.info("refused a connection from pid %d, uid %d, gid %d", peer.pid, peer.uid, peer.gid)
    except PeerClosed:
        pass
    except BaseException:
        sock.close()
        raise
    sock.close()
    return False


def unlink_own(sock: socket.socket, identity: tuple[int, int] | None) -> None:
    """Remove the socket file, unless it is another's by now."""
    name = sock.getsockname()
    if identity is not None and identity_of(name) == identity:
        with contextlib.suppress(OSError):
            os.unlink(name)


def identity_of(name: str | bytes) -> tuple[int, int] | None:
    if isinstance(name, bytes) or not name:
        return None
    try:
        found = os.lstat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino
