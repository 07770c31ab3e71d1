"""Read the PROXY header off a connection, and not a byte more, before its engine sees it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from typing import Any

from fdpass.serve.passed import PassedSocket
from fdpass.serve.proxy import Header, ProxyError, parse
from fdpass.serve.slots import BASE, CLIENT, READ

_MAPPED = bytes(10) + b"\xff\xff"
_TWO = struct.Struct("=qq")
_SECONDS = 10.0  # a proxy sends the header in its first packet
_LONGEST = 4200  # bytes, of the longest header that `parse` admits


async def read_header(passed: PassedSocket) -> int:
    """Take the header off, and let the socket say who the client is.

    Args:
        passed: Lent, non-blocking, of TCP or Unix.

    Returns:
        Its length.

    Raises:
        ProxyError: The connection does not begin with one.
        TimeoutError: None came in ten seconds.
        OSError: The client went away.
    """
    async with asyncio.timeout(_SECONDS):
        header = await _whole(passed)
    passed.client = header.client
    passed.tls_by_proxy = header.tls
    return header.length


async def _whole(passed: PassedSocket) -> Header:
    taken = b""
    while True:
        await _readable(passed)
        # Looking is not taking: what is there may be more than the header. (The danger of MSG_PEEK is on Unix
        # sockets that carry descriptors: on those of clients no descriptor is ever received.)
        seen = passed.recv(_LONGEST, socket.MSG_PEEK)
        if not seen:
            raise ProxyError("the connection ended within the header")
        found = parse(taken + seen)
        if isinstance(found, Header):
            passed.recv(found.length - len(taken))
            return found
        # All of it belongs to the header. Left there, it would be reported as readable again and again.
        taken += passed.recv(len(seen))


async def _readable(passed: PassedSocket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(passed.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(passed.fileno())


def note(words: Any, passed: PassedSocket, length: int) -> None:
    """Write into the slot of a connection what its header said, for the next worker, who cannot read it again.

    The words CLIENT are 1, plus 2 if the client spoke TLS, plus its port above the lower 16 bits; and its address
    as IPv6, IPv4 ones mapped. A client without an address has 0 in all of them but the first.
    """
    packed = bytes(16)
    port = 0
    if isinstance(passed.client, tuple):
        host, port = passed.client
        packed = ipaddress.ip_address(host).packed
        packed = packed if len(packed) == 16 else _MAPPED + packed
    words[CLIENT + 1], words[CLIENT + 2] = _TWO.unpack(packed)
    words[CLIENT] = 1 + 2 * passed.tls_by_proxy + (port << 16)
    words[READ] = max(words[READ], length)  # counts for Unix sockets only
    words[BASE] = length  # the last: idle, and without CLIENT, its own bytes would be read as a header


def recall(words: Any, passed: PassedSocket) -> bool:
    """Let the socket say who its client is, if another worker has noted it. False if nobody has."""
    first = words[CLIENT]
    if not first:
        return False
    passed.tls_by_proxy = bool(first & 2)
    packed = _TWO.pack(words[CLIENT + 1], words[CLIENT + 2])
    if any(packed):
        address = ipaddress.IPv6Address(packed)
        passed.client = (str(address.ipv4_mapped or address), first >> 16)
    return True
