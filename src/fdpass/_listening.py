"""`listen`, `connect` and `Listener`: channels between programs that know a common address. Blocking."""

from __future__ import annotations

import select
import socket
import threading
from _thread import _count as other_threads
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn, Self, Unpack

from fdpass._admission import admitted
from fdpass._channel import Channel
from fdpass._errors import Closed, Timeout
from fdpass._options import ChannelOptions, check_options
from fdpass._pair import SocketType
from fdpass._peer import Rule, same_user
from fdpass._sockets import (
    Address,
    SocketFile,
    accepted,
    bound_socket,
    connected_socket,
    identity_of,
    readable,
    translating_errors,
    unlink_own,
)
from fdpass._waiting import Waits, check_timeout, deadline_of, left, tell_after_fork


def listen(
    path: Address,
    *,
    mode: int = 0o600,
    allow: Rule | None = None,
    type: SocketType = "seqpacket",  # noqa: A002
    backlog: int = 128,
    **channel_options: Unpack[ChannelOptions],
) -> Listener:
    """Listen for channels at an address.

    A socket file at which no program listens is replaced; one at which a program listens is not. The function
    locks the directory of the socket file while it replaces one (flock(2)), and waits at most a second for other
    programs that hold this lock: every program that may read the directory can hold it.

    Args:
        path: A path of at most 107 bytes, or ``"@name"`` for an abstract address.
        mode: The permissions of the socket file, 0 to 0o777, whatever the umask. A peer needs ``w`` to connect.
        allow: The rule that decides about each peer before anything is read from it: `Allow`, or a function that
            takes a `Peer` and returns True or False. The default admits your own user and root.
        type: ``"seqpacket"`` or ``"stream"``.
        backlog: How many connections may wait to be accepted, 0 or more.
        **channel_options: Parameters of `Channel`, for each accepted channel.

    Returns:
        The listener, which removes the socket file when you close it.

    Raises:
        AddressInUse: A program listens there already, or the path is no socket.
        InvalidMessage: The address is empty or too long, the type is unknown, or ``mode`` is out of bounds.
        CallFailed: bind(2) or listen(2) failed (`NotPermitted`, `NotFound`, ...), or no descriptor slot is free.
    """
    check_options(**channel_options)
    sock = bound_socket(path, type, mode, backlog)
    return Listener(sock, allow=allow, unlink=True, **channel_options)


def connect(
    path: Address,
    *,
    type: SocketType = "seqpacket",  # noqa: A002
    timeout: float | None = None,
    **channel_options: Unpack[ChannelOptions],
) -> Channel:
    """Connect to a `Listener`.

    Args:
        path: The listener's address, as for `listen`.
        type: The listener's type.
        timeout: How many seconds to wait while the listener's backlog is full, 0 or more; None waits without
            limit. It does not apply to the channel, which has `Channel.settimeout`.
        **channel_options: Parameters of `Channel`.

    Returns:
        The channel; close it.

    Raises:
        NotFound: There is no such socket file.
        NotListening: No program listens there.
        NotPermitted: The mode of the socket file does not admit you.
        Timeout: The listener's backlog stayed full.
        InvalidMessage: The address is empty or too long, the type is unknown, or ``timeout`` is negative.
        CallFailed: connect(2) failed for another reason: EPROTOTYPE if the listener has another type.
    """
    sock = connected_socket(path, type, timeout)
    try:
        return Channel(sock, **channel_options)
    except BaseException:
        sock.close()
        raise


class Listener:
    """Accepts channels from peers that the rule admits. Several threads may accept at the same time.

    Args:
        sock: A listening Unix socket, one of `inherited` for instance. The listener owns it from then on, and sets
            it to not block, in every process that has it: O_NONBLOCK belongs to the open file.
        allow: As for `listen`. If the rule raises an exception, the peer is refused, and the traceback is logged.
        unlink: Whether `close` removes the socket file. Only the process that made the file removes it, and only
            if no other socket has taken its place.
        **channel_options: Parameters of `Channel`, for each accepted channel.

    Raises:
        InvalidMessage: A bound in ``channel_options`` is negative. You still own ``sock``.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        allow: Rule | None = None,
        unlink: bool = False,
        **channel_options: Unpack[ChannelOptions],
    ) -> None:
        check_options(**channel_options)
        self._sock = sock
        self._allow = allow or same_user
        self._options = channel_options
        self._timeout: float | None = None
        self._waits = Waits()
        self._after_fork()
        tell_after_fork(self)
        self._file: SocketFile | None = identity_of(sock.getsockname()) if unlink else None

    def _after_fork(self) -> None:
        """Forget the parent's threads. For `tell_after_fork`."""
        self._accepting = 0  # threads that are in `accept`
        self._lock = threading.RLock()  # of `_accepting`; a signal handler may close within `accept`
        self._waits.after_fork()

    def accept(self) -> Channel:
        """Accept the next channel whose peer the rule admits; other connections are logged and closed, unread.

        Returns:
            The channel; close it.

        Raises:
            Timeout: Time ran out.
            Closed: The listener is closed.
            CallFailed: accept(2) failed, with EMFILE for instance: it takes two free descriptor slots, one of them
                for the peer's pidfd. The connection waits, and the listener stays usable.
        """
        with self._lock:
            self._accepting += 1
        try:
            return self._accept()
        finally:
            with self._lock:
                self._accepting -= 1
            self._finish()

    def _accept(self) -> Channel:
        deadline = deadline_of(self._timeout)
        while True:
            if self.closed:
                raise Closed("this listener is closed")
            try:
                with translating_errors(self.address, "cannot accept at"):
                    self._sock.setblocking(False)
                    sock = accepted(self._sock)
            except BlockingIOError:
                if not self._waits.wait(self._sock, select.POLLIN, deadline):
                    raise Timeout("timed out: no peer connected that the allow rule admits") from None
                continue
            if sock is not None and admitted(sock, self._allow):
                try:
                    return Channel(sock, **self._options)
                except BaseException:
                    sock.close()
                    raise
            if left(deadline) == 0:
                raise Timeout("timed out: no peer connected that the allow rule admits")

    def __iter__(self) -> Iterator[Channel]:
        """Accept channels until the listener is closed, by any thread; close each. Errors: as `accept`."""
        while not self.closed:
            try:
                channel = self.accept()
            except Closed:
                return
            yield channel

    def settimeout(self, seconds: float | None) -> None:
        """Limit how long each later `accept` may wait.

        Args:
            seconds: 0 or more; 0 does not wait at all; None, the default, or infinity waits without limit.

        Raises:
            InvalidMessage: ``seconds`` is negative or not a number.
        """
        check_timeout(seconds)
        self._timeout = seconds

    @property
    def address(self) -> str:
        """The address for `connect`; an empty string once the listener is closed."""
        return "" if self.fileno() < 0 else readable(self._sock.getsockname())

    def fileno(self) -> int:
        """The socket's number, lent, for poll(2). -1 once the listener is closed."""
        return -1 if self._waits.ended else self._sock.fileno()

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self.fileno() < 0

    def close(self) -> None:
        """Stop listening, and remove the socket file (see ``unlink``). A second call does nothing.

        `accept` raises `Closed` in other threads that wait in it; the last of them to leave closes the socket.
        A signal handler may call it, too.
        """
        if not self.closed:
            unlink_own(self._sock, self._file)
            self._waits.end()
            if not other_threads():  # a signal handler may have interrupted this thread's own `accept`
                self._sock.close()
            self._finish()

    def _finish(self) -> None:
        """Close the socket once no thread is in `accept`. Each thread that leaves calls this."""
        with self._lock:
            if self._waits.ended and not self._accepting:
                self._sock.close()
                self._waits.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:  # used by pickle and by both functions of copy
        raise TypeError(f"{type(self).__name__} owns a socket, and cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.address or 'closed'}>"
