"""The two types of socket that can carry a channel, and a connected pair of either type."""

from __future__ import annotations

import contextlib
import socket
from typing import Literal

from fdpass._errors import InvalidMessage, translated

SocketType = Literal["seqpacket", "stream"]
TYPES = {"seqpacket": socket.SOCK_SEQPACKET, "stream": socket.SOCK_STREAM}
_SO_PASSRIGHTS = 83  # Linux 6.16; CPython has no name for it


def socket_pair(type: str) -> tuple[socket.socket, socket.socket]:  # noqa: A002
    """Make two connected Unix sockets of type ``"seqpacket"`` or ``"stream"``; the caller owns both.

    Raises:
        InvalidMessage: ``type`` is neither of these.
        CallFailed: No descriptor slots are free (EMFILE).
    """
    if type not in TYPES:
        raise InvalidMessage(f"the type of a channel is 'seqpacket' or 'stream', not {type!r}")
    try:
        return socket.socketpair(socket.AF_UNIX, TYPES[type])
    except OSError as error:
        raise translated(error, "cannot make a pair of sockets") from error


def prepare_socket(sock: socket.socket, *, descriptors: bool) -> None:
    """Make a socket, lent, carry a channel.

    Args:
        sock: The socket.
        descriptors: False if the kernel is to refuse each message with descriptors to it: its sender gets EPERM.

    Raises:
        TypeError: ``sock`` is no socket.
        InvalidMessage: ``sock`` is no Unix socket of one of the two types.
    """
    if not isinstance(sock, socket.socket):
        raise TypeError(f"a channel is made of a socket.socket, not of {sock!r}: see connect() and Fd.socket()")
    if sock.family != socket.AF_UNIX or sock.type not in TYPES.values():
        raise InvalidMessage(f"a channel needs a Unix socket of type stream or seqpacket, not {sock!r}")
    if sock.gettimeout():  # a Python timeout would wait within sendmsg; O_NONBLOCK is set already
        sock.setblocking(False)
    if not descriptors:
        with contextlib.suppress(OSError):  # ENOPROTOOPT: an older kernel
            sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
