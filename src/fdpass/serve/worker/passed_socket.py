"""`PassedSocket`: a connection that came from the dispatcher.

The dispatcher has to learn when a connection ends, whatever engine or server has it by then. All of them close
a socket object in the end, so that is where it is told.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import socket
import termios
import threading
from collections.abc import Callable
from typing import Any

from fdpass.serve.shared.reset import reset

Address = Any

# A number that one thread closes must not be ended by another: it may be a stranger's by then.
_ENDING = threading.RLock()


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
        """End the connection so that the peer cannot take what it got for the whole: see `shared.reset`."""
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
