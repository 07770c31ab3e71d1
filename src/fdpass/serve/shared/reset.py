"""Whether a connection has ended; and to reset one, whoever else holds it."""

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
    """End a connection at once, so that its peer cannot take what has come for the whole.

    A TCP socket is disconnected: connect(2) with AF_UNSPEC sends RST, and acts for all holders. SO_LINGER of 0
    seconds would act when the last of them closes, which a forked child may never do; so it is the second choice,
    for kernels that do not disconnect a socket while somebody waits in it (EBUSY; some of 6.4 to 6.6). A Unix
    socket has no reset: its peer sees the end of the stream, or ECONNRESET if the last holder closes it while
    bytes of the peer are unread (unix(7)).

    Args:
        number: The descriptor of a connected stream socket. Lent, and still to be closed.
    """
    if _libc.connect(number, _UNSPECIFIED, len(_UNSPECIFIED)) == 0:
        return
    is_unix = ctypes.get_errno() == errno.EINVAL
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=number)  # what is told is not asked
    with contextlib.suppress(OSError):  # ENOTCONN: the peer was faster
        sock.shutdown(socket.SHUT_RDWR if is_unix else socket.SHUT_RD)  # wakes who waits in it
        if not is_unix:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    sock.detach()


def has_ended(number: int) -> bool:
    """Whether a connection has ended in both directions: closed by its peer with data unread, reset, or shut down.

    Args:
        number: The descriptor of a connected stream socket. Lent.
    """
    poller = select.poll()
    poller.register(number, 0)
    return bool(poller.poll(0))  # POLLHUP and POLLERR come unasked
