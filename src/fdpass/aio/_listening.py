"""`AsyncListener`, `listen` and `connect`: what `fdpass.listening` has, on anyio."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint

from fdpass._pair import SocketType
from fdpass.aio._channel import AsyncChannel
from fdpass.errors import Closed
from fdpass.listening import (
    Address,
    accepted,
    address_of,
    admitted,
    bound_socket,
    explained,
    identity_of,
    new_socket,
    readable,
    unlink_own,
)
from fdpass.peer import Rule, same_user

_PAUSE_MIN, _PAUSE_MAX = 0.005, 0.1  # seconds: a full backlog of a Unix socket makes no event when it drains


async def listen(
    path: Address,
    *,
    mode: int = 0o600,
    allow: Rule | None = None,
    type: SocketType = "seqpacket",  # noqa: A002
    backlog: int = 128,
    **channel_options: Any,
) -> AsyncListener:
    """Listen for channels: as `fdpass.listen`."""
    await checkpoint()
    return AsyncListener(bound_socket(path, type, mode, backlog), allow=allow, **channel_options)


async def connect(
    path: Address,
    *,
    type: SocketType = "seqpacket",  # noqa: A002
    **channel_options: Any,
) -> AsyncChannel:
    """Connect to a listener: as `fdpass.connect`, with cancellation in the place of ``timeout``."""
    sock = new_socket(type)
    try:
        sock.setblocking(False)
        with explained(path, "cannot connect to"):
            await _connected(sock, address_of(path))
        return AsyncChannel(sock, **channel_options)
    except BaseException:
        sock.close()
        raise


async def _connected(sock: socket.socket, address: bytes) -> None:
    pause = _PAUSE_MIN
    await checkpoint()
    while True:
        try:
            sock.connect(address)
        except BlockingIOError:
            await anyio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MAX)
        else:
            return


class AsyncListener:
    """Accepts channels from whoever the rule admits: as `fdpass.Listener`."""

    def __init__(self, sock: socket.socket, *, allow: Rule | None = None, **channel_options: Any) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._allow = allow or same_user
        self._options = channel_options
        self._identity = identity_of(sock.getsockname())

    async def accept(self) -> AsyncChannel:
        """The next channel whose peer is admitted. Those that are not are closed, unread, and logged.

        Raises:
            Closed: The listener is closed.
            CallFailed: accept(2) failed: EMFILE, for instance. The listener stays usable.
        """
        await checkpoint()
        while True:
            if self.fileno() < 0:
                raise Closed("this listener is closed")
            try:
                with explained(self.address, "cannot accept at"):
                    sock = accepted(self._sock)
            except BlockingIOError:
                await self._readable()
                continue
            if sock is not None and admitted(sock, self._allow):
                return AsyncChannel(sock, **self._options)

    async def _readable(self) -> None:
        try:
            await anyio.wait_readable(self._sock)
        except anyio.ClosedResourceError:
            raise Closed("this listener is closed") from None

    async def __aiter__(self) -> AsyncIterator[AsyncChannel]:
        """Channels, until the listener is closed."""
        while self.fileno() >= 0:
            try:
                yield await self.accept()
            except Closed:
                return

    @property
    def address(self) -> str:
        """Where it listens, as `connect` takes it; "" once closed."""
        return "" if self.fileno() < 0 else readable(self._sock.getsockname())

    def fileno(self) -> int:
        """The socket's number, lent. -1 once closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Stop listening, and remove the socket file if it is still ours. Who waits in it gets `Closed`."""
        if self.fileno() >= 0:
            unlink_own(self._sock, self._identity)
            anyio.notify_closing(self._sock)
            self._sock.close()

    async def aclose(self) -> None:
        """As `close`; a checkpoint."""
        self.close()
        await checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
