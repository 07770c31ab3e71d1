"""How many connections wait in the kernel for a listener, and how many can wait there."""

from __future__ import annotations

import os
import socket
import struct

from fdpass import _sock_diag

_QUEUE = struct.Struct("=24xII")  # tcp_info of linux/tcp.h: for a listener, tcpi_unacked and tcpi_sacked


def backlog_of(sock: socket.socket) -> tuple[int, int] | None:
    """Return the length of a listener's backlog and its greatest length; None if the kernel does not say.

    For a Unix socket this is a question by netlink: sock_diag(7).
    """
    try:
        if sock.family == socket.AF_UNIX:
            return _sock_diag.unix_queue(os.fstat(sock.fileno()).st_ino)
        waiting, most = _QUEUE.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _QUEUE.size))
    except (OSError, struct.error):  # closed; another protocol; a security module or an old kernel refuses
        return None
    return waiting, most
