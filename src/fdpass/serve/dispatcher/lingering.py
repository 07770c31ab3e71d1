"""`Lingering`: connections to which the dispatcher sends the last bytes, until their clients have read them."""

from __future__ import annotations

import contextlib
import os
import socket

from fdpass._supervision.loop import Loop, Timer
from fdpass.serve.dispatcher.kernel_counters import borrowed

_LINGER_SECONDS = 2.0  # for a client to read its last bytes before the connection is closed
_DONTWAIT = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Lingering:
    """All such connections.

    A close(2) while bytes are unread would send a reset, and the client could lose what was sent. So bytes that
    come are read and discarded until the client ends its side, or for two seconds.

    Args:
        loop: Event loop.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._timers: dict[int, Timer] = {}  # by descriptor

    def __len__(self) -> int:
        return len(self._timers)

    def add(self, fd: int) -> None:
        """Close a connection, to which `send_last` has sent the last bytes, when the client has ended its side.

        Args:
            fd: The connection. Given.
        """
        self._timers[fd] = self._loop.call_later(_LINGER_SECONDS, lambda: self._close(fd))
        self._loop.watch(fd, lambda: self._discard_unread(fd))

    def _discard_unread(self, fd: int) -> None:
        with borrowed(fd) as sock:
            try:
                more = sock.recv(65536, _DONTWAIT)  # once: a client that sends fast must not keep the loop
            except BlockingIOError:
                return
            except OSError:
                more = b""
        if not more:
            self._close(fd)

    def _close(self, fd: int) -> None:
        self._timers.pop(fd).cancel()
        self._loop.unwatch(fd)
        os.close(fd)

    def close(self) -> None:
        """Close all connections now."""
        for fd in list(self._timers):
            self._close(fd)


def send_last(fd: int, data: bytes) -> None:
    """Send the last bytes of a connection, and end this side of it.

    Args:
        fd: The connection. Lent.
        data: The bytes; few enough for the kernel to take them at once, unless the client is slow.
    """
    with borrowed(fd) as sock, contextlib.suppress(OSError):
        sock.send(data, _DONTWAIT)
        sock.shutdown(socket.SHUT_WR)
