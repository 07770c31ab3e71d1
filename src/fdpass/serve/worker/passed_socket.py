"""`PassedSocket`: a connection that came from the dispatcher.

The dispatcher has to learn when a connection ends, whichever engine or server has the connection by then. All of
them close a socket object in the end, so the socket object reports the end when it is closed.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import termios
import threading
from collections.abc import Callable
from typing import Any

from fdpass.serve.shared.reset import reset

Address = Any

# Held by close, detach and reset: once one thread has closed a descriptor, its number may be that of another
# thread's new file, which must not be reset.
_ENDING = threading.RLock()
os.register_at_fork(before=_ENDING.acquire, after_in_parent=_ENDING.release, after_in_child=_ENDING.release)

CONNECTIONS: set[int] = set()
"""The descriptors of all open connections, for `forks`."""


class PassedSocket(socket.socket):
    """A connected socket that reports when it is closed.

    Attributes:
        slot: The number of the connection's slot.
        is_unix: It is a Unix socket.
        read: Bytes that another worker had read and not answered; once ``returned``, bytes that this worker has
            read.
        on_returned: Called when the socket is closed as ``returned`` and a dispatcher holds the connection; until
            then the shared buffer keeps the bytes that were read.
        client: The client's address, if a PROXY header named it; else None, and getpeername(2) knows it.
        tls_by_proxy: The PROXY header said that the client spoke TLS to the proxy.
        returned: Closing this socket does not end the connection: the dispatcher goes on with it.
        shut: The connection has been shut down: only the descriptor remains to be closed.
    """

    _on_close: Callable[[PassedSocket], None] | None = None

    def __init__(
        self, fd: int, slot: int, on_close: Callable[[PassedSocket], None], family: int = -1, proto: int = -1
    ) -> None:
        # For -1 Python asks the kernel. The protocol must be right: see `Fd.socket`.
        super().__init__(family, socket.SOCK_STREAM, proto, fileno=fd)
        CONNECTIONS.add(fd)
        self._on_close = on_close
        self.is_unix = (self.family if family < 0 else family) == socket.AF_UNIX
        self.slot = slot
        self.read = b""
        self.on_returned: Callable[[], None] = do_nothing
        self.returned = self.shut = False
        self._children = 0  # how many forked children serve the connection, too: see `forks`
        self.client: Address | None = None
        self.tls_by_proxy = False

    def getpeername(self) -> Address:
        """The client's address: from its PROXY header, if the connection began with one; see `unmapped`."""
        return unmapped(super().getpeername()) if self.client is None else self.client

    def getsockname(self) -> Address:
        """The server's address; see `unmapped`."""
        return unmapped(super().getsockname())

    def call_on_close(self, function: Callable[[], None]) -> None:
        """Call a function, too, when the socket is closed. Must be called before another thread has the socket."""
        first = self._on_close

        def both(passed: PassedSocket) -> None:
            if first is not None:
                first(passed)
            function()

        self._on_close = both

    def shut_down(self) -> None:
        """End the connection for the peer, although the dispatcher has a duplicate. Twice does nothing."""
        if not self.shut:
            self.shut = True
            try:  # noqa: SIM105 - contextlib.suppress costs more than the system call
                self.shutdown(socket.SHUT_RDWR)
            except OSError:  # ENOTCONN: the peer was faster
                pass

    def reset(self) -> None:
        """End the connection so that the peer sees an error, and no whole answer: see `shared.reset`."""
        with _ENDING:
            if not self.shut and self.fileno() >= 0:
                self.shut = True
                reset(self.fileno())

    def _real_close(self, *arguments: Any) -> None:  # called by close(), once no file object uses the socket
        with _ENDING:
            CONNECTIONS.discard(self.fileno())
            if not (self.returned or self._children):
                self.shut_down()
            super()._real_close(*arguments)  # type: ignore[misc]
            goes_on = self._children > 0
        if not goes_on:
            self._report_end()

    def _child_ended(self) -> None:
        """A forked child serves the connection no longer: report the end, if no other process serves it."""
        with _ENDING:
            self._children -= 1
            over = not self._children and self.fileno() < 0
        if over:
            self._report_end()

    def __exit__(self, *error: object) -> None:
        """Close the socket; after an error reset it, so that a cut answer cannot pass for a whole one."""
        if error[0] is not None:
            self.reset()
        super().__exit__(*error)

    def detach(self) -> int:
        """Take the descriptor out: the caller must close it, and for the dispatcher the connection has ended."""
        with _ENDING:
            number = super().detach()
            CONNECTIONS.discard(number)
        self._report_end()
        return number

    def dup(self) -> socket.socket:  # type: ignore[override]
        """A duplicate: a plain socket, whose end nobody is told of."""
        duplicate = socket.fromfd(self.fileno(), self.family, self.type, self.proto)
        duplicate.settimeout(self.gettimeout())
        return duplicate

    def __del__(self) -> None:
        if self._on_close is not None:  # else the socket was closed
            with contextlib.suppress(OSError):
                self.close()
            self._report_end()

    def _report_end(self) -> None:
        report, self._on_close = self._on_close, None
        if report is not None:
            report(self)


def peer_of(passed: PassedSocket) -> Address | None:
    """The client's address; None if the client has gone."""
    try:
        return passed.getpeername()
    except OSError:
        return None


def unmapped(address: Address) -> Address:
    """An address as an IPv4 listener has it; at ``[::]`` an IPv4 client is ``::ffff:192.0.2.1``."""
    if type(address) is tuple and len(address) == 4 and address[0].startswith("::ffff:") and "." in address[0]:
        return address[0].removeprefix("::ffff:"), address[1]
    return address


def do_nothing() -> None:
    """What a socket calls that keeps no buffer."""


def unread(number: int) -> int:
    """How many received bytes of a connection nobody has read: FIONREAD, as in tcp(7) and unix(7)."""
    return _count(number, termios.FIONREAD)


def unsent(number: int) -> int:
    """How many sent bytes of a connection the client has not acknowledged: SIOCOUTQ, as in tcp(7)."""
    return _count(number, termios.TIOCOUTQ)


def _count(number: int, request: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(number, request, count)
    return count[0]
