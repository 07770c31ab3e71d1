"""`PassedSocket`: a connection that came from the dispatcher; and `PassedListener`, whose accept() gives such.

The dispatcher has to learn when a connection ends, whatever engine or server has it by then. All of them close
a socket object in the end, so that is where it is told.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import termios
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from fdpass.serve.reset import reset

Address = Any
_ENDING = (
    threading.RLock()
)  # a number that one thread closes must not be ended by another: it may be a stranger's then
_EINVAL = 22


class PassedSocket(socket.socket):
    """A connected socket that says when it is closed.

    Attributes:
        slot: Its number in the dispatcher's books.
        is_unix: It is a Unix socket.
        read: What another worker had read of it, and not answered; or, once returned, this one.
        let_go: Called once it is returned and the dispatcher has been told: until then what was read is kept here.
        client: Who is at the other end, if a PROXY header told; else None, and getpeername(2) knows.
        returned: It does not end with this socket: the dispatcher goes on with it.
        shut: The connection was shut down, or nobody else holds it: closing is all that is left.
    """

    _on_close: Callable[[PassedSocket], None] | None = None

    def __init__(
        self, fd: int, slot: int, on_close: Callable[[PassedSocket], None], *, family: int = -1, proto: int = -1
    ) -> None:
        # What is not told is asked of the kernel. The protocol counts: see `Fd.socket`.
        super().__init__(family, socket.SOCK_STREAM, proto, fileno=fd)
        self._on_close = on_close
        self.is_unix = (self.family if family < 0 else family) == socket.AF_UNIX
        self.slot = slot
        self.read = b""
        self.let_go: Callable[[], None] = _nothing
        self.returned = self.shut = False
        self.client: Address | None = None
        self.tls_by_proxy = False

    def getpeername(self) -> Address:
        """The client's address: from its PROXY header, if it came with one."""
        return super().getpeername() if self.client is None else self.client

    def tell_too(self, act: Callable[[], None]) -> None:
        """Call this as well when the socket is closed. Before the socket is given away."""
        first = self._on_close

        def both(passed: PassedSocket) -> None:
            if first is not None:
                first(passed)
            act()

        self._on_close = both

    def shut_down(self) -> None:
        """End the connection for the peer, although the dispatcher has a duplicate. Twice does nothing."""
        if not self.shut:
            self.shut = True
            with contextlib.suppress(OSError):  # ENOTCONN: the peer was faster
                self.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End the connection so that the peer cannot take what it got for the whole: see `fdpass.serve.reset`."""
        with _ENDING:
            if not self.shut and self.fileno() >= 0:
                self.shut = True
                reset(self.fileno())

    def _real_close(self, *arguments: Any) -> None:  # what close() comes to, once no file object needs it
        with _ENDING:
            if not self.returned:
                self.shut_down()
            super()._real_close(*arguments)  # type: ignore[misc]
        self._tell()

    def __exit__(self, *error: object) -> None:
        """Close it; an error resets it, so that the peer cannot take what it got for the whole."""
        if error[0] is not None:
            self.reset()
        super().__exit__(*error)

    def detach(self) -> int:
        """The number, and it is yours to close: for the dispatcher the connection has ended."""
        with _ENDING:
            number = super().detach()
        self._tell()
        return number

    def dup(self) -> socket.socket:  # type: ignore[override]
        """A duplicate, which is a plain socket: it tells nobody of its end."""
        twin = socket.fromfd(self.fileno(), self.family, self.type, self.proto)
        twin.settimeout(self.gettimeout())
        return twin

    def __del__(self) -> None:
        if self._on_close is not None:  # else it was closed
            with contextlib.suppress(OSError):
                self.close()
            self._tell()

    def _tell(self) -> None:
        tell, self._on_close = self._on_close, None
        if tell is not None:
            tell(self)


def _nothing() -> None:
    pass


def unread(number: int) -> int:
    """How many bytes have come over a connection that nobody has read: FIONREAD, as in tcp(7) and unix(7)."""
    count = array.array("i", [0])
    fcntl.ioctl(number, termios.FIONREAD, count)
    return count[0]


class PassedListener(socket.socket):
    """What a worker has in the place of a listening socket: `accept` takes the next connection passed to it.

    For servers that were not written for fdpass: give it to them as the listening socket that they ask for. It
    can be polled, has a timeout, and blocks or not, like any other. Binding and listening do nothing, for the
    dispatcher did both. Servers that accept in C (uvloop, libuv) cannot use it: run them on asyncio's own loop.

    Args:
        family: Of the connections that will come.
        address: What ``getsockname()`` shall say: where the dispatcher listens.
    """

    def __init__(self, family: int, address: Address) -> None:
        # One byte in a socket pair for each connection that waits: this is what makes it pollable.
        ours, self._feed = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        super().__init__(ours.family, ours.type, ours.proto, fileno=ours.detach())
        self._feed.setblocking(False)
        self._of_family = socket.AddressFamily(family)
        self._address = address
        self._coming: deque[PassedSocket] = deque()
        self._lock = threading.Lock()
        self._owed = 0  # bytes for which the pair had no room
        self._accepting = 0  # threads within `accept`
        self._ended = False
        self.on_use: Callable[[], None] = lambda: None  # somebody polls it, or accepts
        self.on_told: Callable[[], None] = lambda: None  # `accept` has said that it is over

    @property
    def family(self) -> socket.AddressFamily:
        """That of the connections, so that servers read their addresses rightly."""
        return self._of_family

    @property
    def type(self) -> socket.SocketKind:
        """SOCK_STREAM."""
        return socket.SOCK_STREAM

    def fileno(self) -> int:
        """The number to poll."""
        self.on_use()
        return super().fileno()

    def getsockname(self) -> Address:
        """Where the dispatcher listens."""
        return self._address

    def bind(self, address: Address) -> None:
        """Do nothing: the dispatcher is bound already."""

    def listen(self, backlog: int = 0) -> None:
        """Do nothing: the dispatcher listens already."""

    def setsockopt(self, *arguments: Any) -> None:
        """Do nothing: options of listening sockets (SO_REUSEADDR, ...) are the dispatcher's business."""

    def accept(self) -> tuple[socket.socket, Address]:
        """The next connection, and its client's address.

        Raises:
            BlockingIOError: None waits, and this socket does not block.
            TimeoutError: The timeout ran out.
            OSError: EINVAL: the worker retires, and no connection will come any more. EBADF: it is closed.
        """
        self.on_use()
        self._wait()
        with self._lock:
            if not self._coming:
                self.on_told()
                if self._accepting:  # others may have come in while one waited that somebody else has got since
                    self._wake(1)
                raise OSError(_EINVAL, os.strerror(_EINVAL))
            passed = self._coming.popleft()
            if self._owed:
                self._owed -= 1
                self._feed.send(b"c")
        passed.settimeout(socket.getdefaulttimeout())  # what accept(2) hands out blocks, unless told otherwise
        try:
            return passed, passed.getpeername()
        except OSError:  # ENOTCONN: the client went away before it was accepted; reading will tell
            return passed, ("", 0)

    def _wait(self) -> None:
        """Take a byte: one for each connection, and, at the end, one for each thread that is here."""
        with self._lock:
            over = self._ended and not self._coming
            self._accepting += 1
        try:
            if over:
                with contextlib.suppress(OSError):
                    self.recv(1, socket.MSG_DONTWAIT)
            else:
                self.recv(1)
        finally:
            with self._lock:
                self._accepting -= 1

    def feed(self, passed: PassedSocket) -> None:
        """Let `accept` have a connection. From any thread."""
        with self._lock:
            try:
                self._feed.send(b"c")
            except BlockingIOError:
                self._owed += 1
            except OSError:  # it is closed: its server has gone
                passed.close()
                return
            self._coming.append(passed)

    def end(self) -> None:
        """No connection will come any more: after those that wait, `accept` says EINVAL.

        Who polls is woken once, and not for ever: many servers go on polling whatever accept(2) says.
        """
        with self._lock:
            self._ended = True
            self._wake(max(1, self._accepting))

    def _wake(self, count: int) -> None:
        with contextlib.suppress(OSError):  # full: then there are bytes enough
            self._feed.send(b"e" * count)

    def close(self) -> None:
        """Close it, and the connections that nobody accepted."""
        super().close()
        self._feed.close()
        while self._coming:
            self._coming.popleft().close()
