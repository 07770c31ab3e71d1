"""`Lingering`: a connection whose last response was sent although its client still sends.

A close(2) while bytes are unread, or bytes that come afterwards, make the kernel send a reset; and at a reset the
client's kernel drops what the client has not read yet. So the response could be lost. Instead the server ends its
own side, and discards what comes until the client ends its side, for some time at most (RFC 9112, 9.6).
"""

from __future__ import annotations

import contextlib
import select
import socket

from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller

SECONDS = 2.0
"""How long a connection lingers at most."""

BYTES = 16 << 20
"""How many bytes are discarded at most."""

_PART = 64 * 1024
_DONTWAIT = int(socket.MSG_DONTWAIT)


class Lingering:
    """One such connection. It stays in ``poller.lingering`` until it is closed.

    Args:
        poller: Watches the connection.
        passed: The connection. Given.
    """

    def __init__(self, poller: Poller, passed: PassedSocket) -> None:
        self._poller = poller
        self._passed = passed
        self._left = BYTES
        poller.lingering.add(self)
        self._timer = poller.loop.call_later(SECONDS, self.close)
        try:
            poller.watch(passed.fileno(), select.EPOLLIN, self._ready)
        except OSError:  # ENOSPC, ENOMEM: see epoll_ctl(2)
            self._end()

    def _ready(self, *_: int) -> None:
        try:
            data = self._passed.recv(_PART, _DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._left -= len(data)
        if not data or self._left <= 0:
            self.close()

    def close(self) -> None:
        """Close the connection now."""
        self._poller.unwatch(self._passed.fileno())
        self._end()

    def _end(self) -> None:
        self._poller.lingering.discard(self)
        self._timer.cancel()
        self._passed.close()


def end_sending(passed: PassedSocket) -> None:
    """Tell the client that nothing more will be sent."""
    with contextlib.suppress(OSError):  # ENOTCONN: the client has reset the connection
        passed.shutdown(socket.SHUT_WR)
