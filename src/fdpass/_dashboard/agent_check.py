"""HAProxy's agent-check: a TCP server that writes one line about a server to each client, and disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

_PATIENCE = 2.0  # seconds for a client to take the line


async def serve(sock: socket.socket, line: Callable[[], str]) -> asyncio.Server:
    """Answer each client at a listening socket.

    Args:
        sock: The listening socket. Owned by what is returned.
        line: Returns the line that is true now.

    Returns:
        The server, which already listens.
    """

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                writer.write(line().encode())
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        writer.transport.abort()

    return await asyncio.start_server(answer, sock=sock)
