"""What was read and written of a connection, by the kernel's counters; a descriptor as a socket object."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
from collections.abc import Iterator

from fdpass.serve.dispatcher.recovery import Facts
from fdpass.serve.shared.reset import has_ended
from fdpass.serve.shared.slots import FLAGS, READ, WROTE, Flag

_INFO = struct.Struct("=B119xQQ")  # struct tcp_info (linux/tcp.h): state, bytes_acked, bytes_received
_INT = struct.Struct("=i")
_ESTABLISHED, _CLOSE_WAIT = 1, 8  # include/net/tcp_states.h
_FIN_WAIT = {4, 5}
_READING, _WRITING = int(Flag.READING), int(Flag.WRITING)


@contextlib.contextmanager
def borrowed(fd: int) -> Iterator[socket.socket]:
    """A descriptor as a socket object that leaves it open."""
    # Family and kind given here save the system calls that would find them; the calls below work with wrong ones.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def facts_of(words: memoryview, fd: int) -> Facts:
    """The facts of a connection, of which the kernel knows more than its slot.

    Args:
        words: The slot.
        fd: The connection. Lent.
    """
    try:
        info, unread, unacknowledged = counters(fd)
    except OSError:  # EOPNOTSUPP: the kernel keeps no counters of Unix sockets, so the slot's words count
        flags = words[FLAGS]
        read = None if flags & _READING else words[READ]
        return Facts(not has_ended(fd), read, None if flags & _WRITING else words[WROTE])
    state, acknowledged, received = info
    if state not in {_ESTABLISHED, _CLOSE_WAIT}:
        return Facts(False, None, None)
    # The kernel counts the peer's FIN as one received byte.
    return Facts(True, received - unread - (state == _CLOSE_WAIT), acknowledged + unacknowledged)


def awaits_client(fd: int) -> bool:
    """Whether the server has ended its side of a TCP connection, which is lent, and the client has not."""
    with borrowed(fd) as sock:
        try:
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _FIN_WAIT
        except OSError:  # a Unix socket
            return False


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
