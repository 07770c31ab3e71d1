"""`AsyncListener`, `listen` and `connect`: what `_listening` has, on anyio."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint

from fdpass._admission import admitted, check_options
from fdpass._errors import Closed
from fdpass._pair import SocketType
from fdpass._peer import Rule, same_user
from fdpass._sockets import (
    Address,
    SocketFile,
    accepted,
    address_of,
    bound_socket,
    explained,
    identity_of,
    new_socket,
    readable,
    unlink_own,
)
from fdpass.aio._channel import AsyncChannel

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
    check_options(channel_options)
    sock = bound_socket(path, type, mode, backlog)
    return AsyncListener(sock, allow=allow, unlink=True, **channel_options)


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
    """Accepts channels from whoever the rule admits: as `fdpass.Listener`. Tasks that accept take turns.

    Args:
        sock: As of `fdpass.Listener`. It is set to not block, for all who hold it.
        allow: As of `fdpass.Listener`; it is called in the event loop, and should not block.
        unlink: As of `fdpass.Listener`.
        **channel_options: As of `AsyncChannel`, for each accepted one.
    """

    def __init__(
        self, sock: socket.socket, *, allow: Rule | None = None, unlink: bool = False, **channel_options: Any
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._allow = allow or same_user
        self._options = channel_options
        self._turn: anyio.Lock | None = None
        self._file: SocketFile | None = identity_of(sock.getsockname()) if unlink else None

    async def accept(self) -> AsyncChannel:
        """The next channel whose peer is admitted. Those that are not are closed, unread, and logged.

        Raises:
            Closed: The listener is closed.
            CallFailed: accept(2) failed: EMFILE, for instance. The listener stays usable.
        """
        if self._turn is None:
            self._turn = anyio.Lock()  # acquiring it is the checkpoint: after accept(2) comes none
        async with self._turn:
            while True:
                try:
                    with explained(self.address, "cannot accept at"):
                        sock = accepted(self._sock)
                except BlockingIOError:
                    await self._readable()
                    continue
                if sock is not None and admitted(sock, self._allow):
                    return self._channel(sock)
                await checkpoint()  # a flood of peers to refuse leaves the other tasks their time

    def _channel(self, sock: socket.socket) -> AsyncChannel:
        try:
            return AsyncChannel(sock, **self._options)
        except BaseException:
            sock.close()
            raise

    async def _readable(self) -> None:
        try:
            await anyio.wait_readable(self._sock)
        except anyio.ClosedResourceError:
            raise Closed("this listener is closed") from None

    async def __aiter__(self) -> AsyncIterator[AsyncChannel]:
        """Channels, until the listener is closed."""
        while not self.closed:
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

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self.fileno() < 0

    def close(self) -> None:
        """Stop listening, and remove the socket file if it is still ours. Who waits in it gets `Closed`."""
        if not self.closed:
            unlink_own(self._sock, self._file)
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

    def __repr__(self) -> str:
        return f"<AsyncListener {self.address or 'closed'}>"
