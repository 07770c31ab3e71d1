"""Reset or shut down a connection for all processes that hold it, and find out whether it has ended."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import select
import socket
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_UNSPECIFIED = bytes(16)  # a struct sockaddr of the family AF_UNSPEC, which is 0
_NO_LINGER = struct.pack("ii", 1, 0)  # SO_LINGER of 0 seconds: the last close(2) sends RST


def reset(number: int) -> None:
    """End a connection at once, so that its peer cannot take a cut answer for a whole one.

    connect(2) with AF_UNSPEC disconnects a TCP socket: it sends RST, and acts for all holders. SO_LINGER of 0
    seconds acts only when the last holder closes, which a forked child may never do. So SO_LINGER is the second
    choice, for kernels that do not disconnect a socket while a thread waits in it (EBUSY; some of 6.4 to 6.6). A
    Unix socket has no reset: its peer sees the end of the stream, or ECONNRESET if the last holder closes it while
    bytes of the peer are unread (unix(7)).

    Args:
        number: The descriptor of a connected stream socket. Lent: the caller still closes it.
    """
    if _libc.connect(number, _UNSPECIFIED, len(_UNSPECIFIED)) == 0:
        return
    is_unix = ctypes.get_errno() == errno.EINVAL
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)  # given, they need no system calls
    with contextlib.suppress(OSError):  # ENOTCONN: the peer has ended it already
        sock.shutdown(socket.SHUT_RDWR if is_unix else socket.SHUT_RD)  # wakes a thread that waits in it
        if not is_unix:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    sock.detach()


def shut_down(number: int) -> None:
    """End both directions of a connection for all holders. If it has ended, nothing happens.

    Args:
        number: The descriptor of a connected stream socket. Lent.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)  # as in `reset`
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.detach()


def has_ended(number: int) -> bool:
    """Whether both directions of a connection have ended: by a reset, a shutdown, or a close with data unread.

    Args:
        number: The descriptor of a connected stream socket. Lent.
    """
    poller = select.poll()
    poller.register(number, 0)
    return bool(poller.poll(0))  # poll(2) always reports POLLHUP and POLLERR
