"""Reads the PROXY header of a connection, and no byte beyond it, before the engine gets the connection.

In custody the header is read into a shared buffer, like a request: so half a header can go on in another worker.
"""

from __future__ import annotations

import asyncio
import socket

from fdpass.serve.worker.custody.reader import Reader
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.proxy_header import Header, ProxyError, parse

_TIMEOUT_SECONDS = 10.0  # a proxy sends the header in its first packet
_DONTWAIT = int(socket.MSG_DONTWAIT)

HEADER_MAX = 4200
"""Bytes: a little more than the longest header that `parse` accepts."""


async def read_header(passed: PassedSocket, reader: Reader | None) -> int:
    """Take the header off a connection, and tell the socket its client.

    Args:
        passed: Lent, non-blocking, of TCP or Unix. Until the header is whole, its ``read`` holds the bytes of the
            header that this worker or another has read.
        reader: Puts the header into a shared buffer; None without custody.

    Returns:
        The header's length in bytes.

    Raises:
        ProxyError: The connection does not begin with a header.
        TimeoutError: No whole header came within ten seconds.
        OSError: The client went away.
    """
    if passed.read and reader is not None:
        reader.begin(passed.read)
        reader.read += len(passed.read)
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        header = await _read_whole(passed, reader)
    passed.client = header.client
    passed.tls_by_proxy = header.tls
    passed.read = b""
    return header.length


async def _read_whole(passed: PassedSocket, reader: Reader | None) -> Header:
    while True:
        if passed.read and isinstance(found := parse(passed.read), Header):
            return found
        await _wait_readable(passed)
        # A peek, for more than the header may have come. (MSG_PEEK is dangerous on Unix sockets that carry
        # descriptors: fdpass receives none on the sockets of clients.)
        seen = passed.recv(HEADER_MAX, socket.MSG_PEEK)
        if not seen:
            raise ProxyError("the connection ended within the header")
        found = parse(passed.read + seen)
        # All bytes of a header that is not whole are taken: bytes left there would wake this loop again and again.
        count = found.length - len(passed.read) if isinstance(found, Header) else len(seen)
        passed.read += passed.recv(count) if reader is None else _receive(passed, reader, count)


def _receive(passed: PassedSocket, reader: Reader, most: int) -> bytes:
    count = 0
    try:
        count = passed.recv_into(reader.place()[:most], 0, _DONTWAIT)
    finally:
        data = reader.came(count)
    return data


async def _wait_readable(passed: PassedSocket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(passed.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(passed.fileno())
