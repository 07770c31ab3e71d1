"""`listen`, `connect` and `AsyncListener`: channels by a common address, with ``await``."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from types import TracebackType
from typing import NoReturn, Self, Unpack

import anyio
from anyio.lowlevel import checkpoint

from fdpass._admission import admitted
from fdpass._errors import Closed
from fdpass._options import ChannelOptions, check_options
from fdpass._pair import SocketType
from fdpass._peer import Rule, same_user
from fdpass._sockets import (
    Address,
    SocketFile,
    accepted,
    address_of,
    binding,
    identity_of,
    new_socket,
    readable,
    translating_errors,
    unlink_own,
)
from fdpass.aio._channel import AsyncChannel

_PAUSE_MIN, _PAUSE_MAX = 0.005, 0.1  # seconds: no event tells when a Unix socket's full backlog has room again


async def listen(
    path: Address,
    *,
    mode: int = 0o600,
    allow: Rule | None = None,
    type: SocketType = "seqpacket",  # noqa: A002
    backlog: int = 128,
    **channel_options: Unpack[ChannelOptions],
) -> AsyncListener:
    """Listen for channels at an address. Parameters and errors: see `fdpass.listen`."""
    await checkpoint()
    check_options(**channel_options)
    steps = binding(path, type, mode, backlog)
    with contextlib.closing(steps):  # a cancelled call closes the socket
        while True:
            try:
                pause = next(steps)
            except StopIteration as done:
                return AsyncListener(done.value, allow=allow, unlink=True, **channel_options)
            await anyio.sleep(pause)


async def connect(
    path: Address,
    *,
    type: SocketType = "seqpacket",  # noqa: A002
    **channel_options: Unpack[ChannelOptions],
) -> AsyncChannel:
    """Connect to a listener; cancel it to limit the wait. Parameters and errors: see `fdpass.connect`."""
    sock = new_socket(type)
    try:
        sock.setblocking(False)
        with translating_errors(path, "cannot connect to"):
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
    """Accepts channels from peers that the rule admits. Async `Listener`; tasks that accept take turns.

    Args:
        sock: As for `Listener`. It is set to not block, in every process that has it: O_NONBLOCK belongs to the
            open file.
        allow: As for `Listener`. It is called in the event loop, and must not block.
        unlink: As for `Listener`.
        **channel_options: Parameters of `AsyncChannel`, for each accepted channel.

    Raises:
        InvalidMessage: A bound in ``channel_options`` is negative. You still own ``sock``.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        allow: Rule | None = None,
        unlink: bool = False,
        **channel_options: Unpack[ChannelOptions],
    ) -> None:
        check_options(**channel_options)
        sock.setblocking(False)
        self._sock = sock
        self._allow = allow or same_user
        self._options = channel_options
        self._accepting: anyio.Lock | None = None
        self._file: SocketFile | None = identity_of(sock.getsockname()) if unlink else None

    async def accept(self) -> AsyncChannel:
        """Accept the next channel whose peer the rule admits; other connections are logged and closed, unread.

        A cancelled call has accepted no connection.

        Returns:
            The channel; close it.

        Raises:
            Closed: The listener is closed.
            CallFailed: As `Listener.accept`. The listener stays usable.
        """
        if self._accepting is None:
            self._accepting = anyio.Lock()  # acquiring it is a checkpoint; there must be none after accept(2)
        async with self._accepting:
            while True:
                try:
                    with translating_errors(self.address, "cannot accept at"):
                        sock = accepted(self._sock)
                except BlockingIOError:
                    await self._readable()
                    continue
                if sock is not None and admitted(sock, self._allow):
                    return self._channel(sock)
                await checkpoint()  # other tasks run, too, while many peers are refused

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
        """Accept channels until the listener is closed; close each. Errors: as `accept`."""
        while not self.closed:
            try:
                yield await self.accept()
            except Closed:
                return

    @property
    def address(self) -> str:
        """The address for `connect`; an empty string once the listener is closed."""
        return "" if self.fileno() < 0 else readable(self._sock.getsockname())

    def fileno(self) -> int:
        """The socket's number, lent. -1 once the listener is closed."""
        return self._sock.fileno()

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self.fileno() < 0

    def close(self) -> None:
        """Stop listening, and remove the socket file (see ``unlink``). A second call does nothing.

        `accept` raises `Closed` in the tasks that wait in it.
        """
        if not self.closed:
            unlink_own(self._sock, self._file)
            with contextlib.suppress(RuntimeError):  # no event loop runs, so no task waits
                anyio.notify_closing(self._sock)
            self._sock.close()

    async def aclose(self) -> None:
        """Call `close`, then let other tasks run."""
        self.close()
        await checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:  # used by pickle and by both functions of copy
        raise TypeError(f"{type(self).__name__} owns a socket, and cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<AsyncListener {self.address or 'closed'}>"
