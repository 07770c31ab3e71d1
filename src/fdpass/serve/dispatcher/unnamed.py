"""Descriptors that no word of the estate names: what a dead dispatcher was about to take, or to close."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fdpass.serve.dispatcher.kernel_counters import borrowed
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.shared.reset import has_ended

_ESTABLISHED, _CLOSE_WAIT = 1, 8  # include/net/tcp_states.h
_FIN_WAIT = {4, 5}


class Unnamed(NamedTuple):
    """What they are.

    Attributes:
        accepted: Connections that had been accepted, and were in no slot yet, with their clients' addresses.
        lingering: Connections to which the dispatcher had sent the last bytes.
    """

    accepted: list[tuple[int, Any]]
    lingering: list[int]


def sort_out(unnamed: Iterable[int], numbers: Iterable[int], listeners: Sequence[Listening]) -> Unnamed:
    """Find the connections, and close everything else.

    Args:
        unnamed: The descriptors. Given.
        numbers: The descriptors of connections that the estate names: a second descriptor of one of these was
            taken out of the channel of a worker, and is not needed.
        listeners: The listeners at which connections were accepted.
    """
    addresses = {_address(listener.sock) for listener in listeners}
    found = Unnamed([], [])
    known: set[int] | None = None
    for fd in unnamed:
        if _state(fd, addresses) not in {_ESTABLISHED, _CLOSE_WAIT, *_FIN_WAIT}:
            os.close(fd)
            continue
        if known is None:  # rarely needed, and as many system calls as there are connections
            known = {os.fstat(number).st_ino for number in numbers}
        inode = os.fstat(fd).st_ino
        if inode in known:
            os.close(fd)
            continue
        known.add(inode)
        if _state(fd, addresses) in _FIN_WAIT:
            found.lingering.append(fd)
        else:
            with borrowed(fd) as sock:
                found.accepted.append((fd, sock.getpeername()))
    return found


def _state(fd: int, addresses: set[Any]) -> int:
    """TCP's state of a connection of one of these listeners; 0 if ``fd`` is none."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return 0
    sock = socket.socket(fileno=fd)
    try:
        if sock.type != socket.SOCK_STREAM or _address(sock) not in addresses:
            return 0
        sock.getpeername()
        if sock.family == socket.AF_UNIX:
            return 0 if has_ended(fd) else _ESTABLISHED
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except OSError:  # ENOTCONN: it listens, or its client has gone
        return 0
    finally:
        sock.detach()


def _address(sock: socket.socket) -> tuple[int, Any]:
    """Family and port, or name: the host of a connection at ``0.0.0.0`` is another one than its listener's."""
    name = sock.getsockname()
    return sock.family, name if sock.family == socket.AF_UNIX else name[1]
