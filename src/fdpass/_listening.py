"""`listen` and `connect`: channels between programs that find each other by an address. Blocking."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from fdpass._admission import admitted, check_options
from fdpass._channel import Channel
from fdpass._errors import InvalidMessage, Timeout
from fdpass._pair import SocketType
from fdpass._peer import Rule, same_user
from fdpass._sockets import (
    Address,
    SocketFile,
    accepted,
    bound_socket,
    connected_socket,
    explained,
    identity_of,
    readable,
    unlink_own,
)


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
        allow: Who may, asked before anything is read from the peer: a function of `Peer` that returns True or
            False, or `Allow`. By default our own user and root.
        type: ``"seqpacket"`` or ``"stream"``.
        backlog: How many connections may wait to be accepted.
        **channel_options: As of `Channel`, for each accepted one.

    Raises:
        AddressInUse: Somebody listens there already, or the path is something else than a socket.
        InvalidMessage: The address is too long, or the type unknown, or the mode none.
        CallFailed: bind(2) or listen(2) failed (`NotPermitted`, `NotFound`, ...).
    """
    check_options(channel_options)
    sock = bound_socket(path, type, mode, backlog)
    return Listener(sock, allow=allow, unlink=True, **channel_options)


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
        timeout: Seconds to wait while the listener's backlog is full; None for ever. It is for connecting only:
            the channel has a `settimeout` of its own.
        **channel_options: As of `Channel`.

    Raises:
        NotFound: There is no such socket file.
        NotListening: Nobody listens behind it.
        NotPermitted: Its mode does not admit you.
        Timeout: Its backlog stayed full.
        InvalidMessage: The address is too long, or the type unknown.
        CallFailed: connect(2) failed for another reason: EPROTOTYPE, for instance, if the type is another.
    """
    sock = connected_socket(path, type, timeout)
    try:
        return Channel(sock, **channel_options)
    except BaseException:
        sock.close()
        raise


class Listener:
    """Accepts channels from whoever the rule admits.

    Args:
        sock: A listening Unix socket, one that `inherited` gave, for instance; the listener owns it now.
        allow: As of `listen`. A rule that raises refuses the peer, and the traceback is logged.
        unlink: Whether `close` removes the socket file, if it is still this socket's, and this process its
            maker's. Leave it to who made it.
        **channel_options: As of `Channel`, for each accepted one.
    """

    def __init__(
        self, sock: socket.socket, *, allow: Rule | None = None, unlink: bool = False, **channel_options: Any
    ) -> None:
        self._sock = sock
        self._allow = allow or same_user
        self._options = channel_options
        self._timeout: float | None = None
        self._file: SocketFile | None = identity_of(sock.getsockname()) if unlink else None

    def accept(self) -> Channel:
        """The next channel whose peer is admitted. Those that are not are closed, unread, and logged.

        Raises:
            Timeout: Time ran out.
            Closed: The listener is closed.
            CallFailed: accept(2) failed: EMFILE, for instance. The listener stays usable.
        """
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            with explained(self.address, "cannot accept at"):
                sock = self._accepted(deadline)
            if sock is not None and admitted(sock, self._allow):
                try:
                    return Channel(sock, **self._options)
                except BaseException:
                    sock.close()
                    raise
            if deadline is not None and time.monotonic() >= deadline:
                raise Timeout("in this time nobody connected who is admitted")

    def _accepted(self, deadline: float | None) -> socket.socket | None:
        self._sock.settimeout(None if deadline is None else max(0.0, deadline - time.monotonic()))
        try:
            return accepted(self._sock)
        except BlockingIOError as error:
            raise Timeout("nobody connected in time") from error

    def __iter__(self) -> Iterator[Channel]:
        """Channels, until the listener is closed."""
        while self.fileno() >= 0:
            yield self.accept()

    def settimeout(self, seconds: float | None) -> None:
        """Bound each later `accept`: seconds, 0 for "at once or not at all", None for ever."""
        if seconds is not None and not seconds >= 0:
            raise InvalidMessage("a timeout is 0 or more seconds, or None")
        self._timeout = seconds

    @property
    def address(self) -> str:
        """Where it listens, as `connect` takes it; "" once closed."""
        return "" if self.fileno() < 0 else readable(self._sock.getsockname())

    def fileno(self) -> int:
        """The socket's number, lent: for poll(2). -1 once closed."""
        return self._sock.fileno()

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self.fileno() < 0

    def close(self) -> None:
        """Stop listening, and remove the socket file if it is still ours. Twice does nothing."""
        if not self.closed:
            unlink_own(self._sock, self._file)
            self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address or 'closed'}>"
