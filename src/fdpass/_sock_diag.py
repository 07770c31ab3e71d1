"""Asks the kernel for its Unix sockets by netlink: sock_diag(7). Names are bytes of known length there.

In /proc/net/unix a name can contain spaces and newlines, and so imitate the row of another socket.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port
_REQUEST = struct.Struct("=BBHIIIII")  # unix_diag_req: family, protocol, padding, states, inode, show, cookie
_ENTRY = struct.Struct("=BBBBIII")  # unix_diag_msg: family, type, state, padding, inode, cookie
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length with this header, type
_NUMBER, _ERROR = struct.Struct("=I"), struct.Struct("=i")
_LENGTHS = struct.Struct("=II")  # unix_diag_rqlen: of a listener, its backlog now and at most
_NO_COOKIE = 0xFFFFFFFF
_ALL_STATES = 0xFFFFFFFF
_SHOW_NAME, _SHOW_PEER = 0x1, 0x4
_SHOW_QUEUE = 0x10
_NAME, _PEER, _QUEUE = 0, 2, 4  # UNIX_DIAG_NAME, UNIX_DIAG_PEER, UNIX_DIAG_RQLEN
_BUFFER = 1 << 16  # the kernel's dumps come in parts of 32 KiB at most


class UnixSocket(NamedTuple):
    """A Unix socket of this network namespace.

    Attributes:
        inode: Its inode number, which the link in /proc/PID/fd shows.
        type: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
        state: A state of TCP: 1 established, 2 connecting, 7 closed, 10 listening.
        name: Its address as in ``sun_path`` of unix(7), an abstract one with its zero byte; None if it has none.
        peer: The inode number of its peer; None if it has none.
    """

    inode: int
    type: int
    state: int
    name: bytes | None
    peer: int | None


def unix_sockets() -> list[UnixSocket]:
    """Every Unix socket in the network namespace of this process.

    Raises:
        OSError: The kernel has no sock_diag for Unix sockets, or a security module or a seccomp filter refuses it.
    """
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, _SHOW_NAME | _SHOW_PEER, 0, 0)
    return [parsed(content) for content in _ask(request, _NLM_F_DUMP)]


def unix_queue(inode: int) -> tuple[int, int] | None:
    """Return how many connections wait at a listening Unix socket, and how many can; None if it is not told.

    Args:
        inode: The inode number of the socket.

    Raises:
        OSError: As of `unix_sockets`; or there is no such socket.
    """
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, inode, _SHOW_QUEUE, _NO_COOKIE, _NO_COOKIE)
    for content in _ask(request, 0):
        found = dict(_attributes(content[_ENTRY.size :])).get(_QUEUE)
        return None if found is None else _LENGTHS.unpack(found)
    return None


def _ask(request: bytes, flags: int) -> list[bytes]:
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
        sock.settimeout(None)
        sock.sendto(header + request, (0, 0))
        return list(_replies(sock, several=bool(flags)))


def _replies(sock: socket.socket, *, several: bool) -> Iterator[bytes]:
    while True:
        for kind, content in messages(sock.recv(_BUFFER)):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -_ERROR.unpack_from(content)[0]
                raise OSError(number, os.strerror(number))
            if kind == _SOCK_DIAG_BY_FAMILY:
                yield content
                if not several:
                    return


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and content of each netlink message in a datagram."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def parsed(content: bytes) -> UnixSocket:
    """Parse a unix_diag_msg with its attributes."""
    _, kind, state, _, inode, *_ = _ENTRY.unpack_from(content)
    found = dict(_attributes(content[_ENTRY.size :]))
    peer = _NUMBER.unpack(found[_PEER])[0] if _PEER in found else 0
    return UnixSocket(inode, kind, state, found.get(_NAME) or None, peer or None)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
