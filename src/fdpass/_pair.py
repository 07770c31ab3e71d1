"""The two types of socket that can carry a channel, and a connected pair of either type."""

from __future__ import annotations

import socket
from typing import Literal

from fdpass._errors import InvalidMessage

SocketType = Literal["seqpacket", "stream"]
TYPES = {"seqpacket": socket.SOCK_SEQPACKET, "stream": socket.SOCK_STREAM}


def socket_pair(type: str) -> tuple[socket.socket, socket.socket]:  # noqa: A002
    """Make two connected Unix sockets of type ``"seqpacket"`` or ``"stream"``; the caller owns both."""
    if type not in TYPES:
        raise InvalidMessage(f"the type of a channel is 'seqpacket' or 'stream', not {type!r}")
    return socket.socketpair(socket.AF_UNIX, TYPES[type])
