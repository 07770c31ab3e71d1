"""A socket whose close(2) may wait."""

from __future__ import annotations

import contextlib
import socket
import struct

_LINGER = struct.Struct("@ii")


def forget_linger(number: int) -> None:
    """Let the last close(2) of a socket return at once, though an application has set SO_LINGER.

    With SO_LINGER of some seconds close(2) would wait until the peer has everything, also on a non-blocking socket
    (socket(7)). A time of 0 seconds stays: it means a reset, and nothing waits.

    Args:
        number: A descriptor; nothing happens if it is no socket. Lent.
    """
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)
    except OSError:  # ENOTSOCK
        return
    with contextlib.suppress(OSError):
        is_on, seconds = _LINGER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.size))
        if is_on and seconds:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(0, 0))
    sock.detach()
