"""Read the PROXY header off a connection, and not a byte more, before its engine sees it.

In custody it is read into a buffer, like a request: so half a header can go on in another worker.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from typing import Any

from fdpass.serve.shared.slots import BASE, CLIENT
from fdpass.serve.worker.custody.reader import Reader
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.proxy_header import Header, ProxyError, parse

_MAPPED = bytes(10) + b"\xff\xff"
_TWO = struct.Struct("=qq")
_SECONDS = 10.0  # a proxy sends the header in its first packet
_DONTWAIT = int(socket.MSG_DONTWAIT)

LONGEST = 4200
"""Bytes of the longest header that `parse` admits, and some more."""


async def read_header(passed: PassedSocket, intake: Reader | None) -> int:
    """Take the header off, and let the socket say who the client is.

    Args:
        passed: Lent, non-blocking, of TCP or Unix. Until the header is whole ``read`` is what was read of it, by
            another worker or here.
        intake: Its reading side in custody; its buffer has the header's bytes at the end.

    Returns:
        Its length.

    Raises:
        ProxyError: The connection does not begin with one.
        TimeoutError: None came in ten seconds.
        OSError: The client went away.
    """
    if passed.read and intake is not None:
        intake.begin(passed.read)
        intake.read += len(passed.read)
    async with asyncio.timeout(_SECONDS):
        header = await _whole(passed, intake)
    passed.client = header.client
    passed.tls_by_proxy = header.tls
    passed.read = b""
    return header.length


async def _whole(passed: PassedSocket, intake: Reader | None) -> Header:
    while True:
        if passed.read and isinstance(found := parse(passed.read), Header):
            return found
        await _readable(passed)
        # Looking is not taking: what is there may be more than the header. (The danger of MSG_PEEK is on Unix
        # sockets that carry descriptors: on those of clients no descriptor is ever received.)
        seen = passed.recv(LONGEST, socket.MSG_PEEK)
        if not seen:
            raise ProxyError("the connection ended within the header")
        found = parse(passed.read + seen)
        # If it is not whole all that is there belongs to it, and would be reported as readable again and again.
        more = found.length - len(passed.read) if isinstance(found, Header) else len(seen)
        passed.read += passed.recv(more) if intake is None else _received(passed, intake, more)


def _received(passed: PassedSocket, intake: Reader, most: int) -> bytes:
    count = 0
    try:
        count = passed.recv_into(intake.place()[:most], 0, _DONTWAIT)
    finally:
        data = intake.came(count)
    return data


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
    words[BASE] = length  # the last: before it the bytes are read as a header once more, and after it never again


def recall(words: Any, passed: PassedSocket) -> bool:
    """Let the socket say who its client is, if another worker has noted it. False if nobody has."""
    if not words[BASE]:
        return False
    first = words[CLIENT]
    passed.tls_by_proxy = bool(first & 2)
    packed = _TWO.pack(words[CLIENT + 1], words[CLIENT + 2])
    if any(packed):
        address = ipaddress.IPv6Address(packed)
        passed.client = (str(address.ipv4_mapped or address), first >> 16)
    return True
