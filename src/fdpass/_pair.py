"""The two types of socket that a channel can be made of, and a connected pair of either."""

from __future__ import annotations

import socket
from typing import Literal

from fdpass._errors import InvalidMessage

SocketType = Literal["seqpacket", "stream"]
TYPES = {"seqpacket": socket.SOCK_SEQPACKET, "stream": socket.SOCK_STREAM}


def socket_pair(type: str) -> tuple[socket.socket, socket.socket]:  # noqa: A002
    """Two connected Unix sockets, ``"seqpacket"`` or ``"stream"``."""
    if type not in TYPES:
        raise InvalidMessage(f"a channel's type is 'seqpacket' or 'stream', not {type!r}")
    return socket.socketpair(socket.AF_UNIX, TYPES[type])
