"""The kernel's counters of a TCP connection; and a descriptor as a socket object for the time of a call."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import Iterator

_INFO = struct.Struct("=B119xQQ")  # struct tcp_info (linux/tcp.h): state, bytes_acked, bytes_received
_INT = struct.Struct("=i")


@contextlib.contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """A descriptor as a socket object that leaves it open."""
    # Family and kind given here save the system calls that would find them; the calls below work with wrong ones.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def counters(fd: int) -> tuple[tuple[int, int, int], int, int]:
    """TCP's state, bytes acknowledged and received; bytes unread and unacknowledged: all of one moment.

    Three system calls ask for them, and a packet can arrive in between: an acknowledgement could make it seem that
    a response that was sent was never written. Every packet changes TCP_INFO, so the calls are repeated until
    TCP_INFO is the same before and after the others.

    Raises:
        OSError: EOPNOTSUPP: it is a Unix socket, of which the kernel keeps no counters.
    """
    with borrowed(fd) as sock:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        while True:
            unread, unacknowledged = _ioctl(fd, termios.FIONREAD), _ioctl(fd, termios.TIOCOUTQ)
            before, info = info, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
            found = _INFO.unpack(info)
            if found == _INFO.unpack(before):
                return found, unread, unacknowledged


def _ioctl(fd: int, request: int) -> int:
    value: int = _INT.unpack(fcntl.ioctl(fd, request, bytes(_INT.size)))[0]
    return value
