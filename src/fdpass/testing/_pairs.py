"""Connected pairs of channels and sockets for tests, and an adapter that makes an `AsyncChannel` block."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, Self

from anyio.from_thread import BlockingPortal

from fdpass import AsyncChannel, Channel, InvalidMessage, Message
from fdpass.testing._faults import FaultySocket

SocketType = Literal["seqpacket", "stream"]
_TYPES = {"seqpacket": socket.SOCK_SEQPACKET, "stream": socket.SOCK_STREAM}


class BlockingChannel(Protocol):
    """The methods that the conformance checks need. What they do: see `fdpass.Channel`."""

    @property
    def closed(self) -> bool: ...
    def send(self, data: Any, fds: Any = (), *, give: bool = False) -> None: ...
    def recv(self) -> Message: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def __iter__(self) -> Iterator[Message]: ...
    def __next__(self) -> Message: ...


@contextmanager
def channel_pair(type: SocketType = "seqpacket", **options: Any) -> Iterator[tuple[Channel, Channel]]:  # noqa: A002
    """Make two connected channels; the end of the ``with`` block closes both.

    Args:
        type: ``"seqpacket"`` or ``"stream"``.
        **options: Parameters of `fdpass.Channel`, for both ends.
    """
    left, right = Channel.pair(type, **options)
    with left, right:
        yield left, right


def faulty_pair(
    type: SocketType = "seqpacket",  # noqa: A002
) -> tuple[FaultySocket, socket.socket]:
    """Make two connected sockets, for channels of your own; you own both.

    Args:
        type: ``"seqpacket"`` or ``"stream"``.

    Returns:
        A `FaultySocket` with an empty script, and a plain socket.
    """
    if type not in _TYPES:
        raise InvalidMessage(f"the type of a pair is 'seqpacket' or 'stream', not {type!r}")
    left, right = socket.socketpair(socket.AF_UNIX, _TYPES[type])
    return FaultySocket.wrap(left, {}), right


class Blocking:
    """An `AsyncChannel` with blocking methods: each runs in the portal's event loop, and waits for the result."""

    def __init__(self, portal: BlockingPortal, channel: AsyncChannel) -> None:
        self._portal = portal
        self._channel = channel
        self._messages = channel.__aiter__()

    def _call(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return self._portal.call(function, *args)

    @property
    def closed(self) -> bool:
        return self._channel.closed

    def send(self, data: Any, fds: Any = (), *, give: bool = False) -> None:
        async def send() -> None:
            await self._channel.send(data, fds, give=give)

        self._call(send)

    def recv(self) -> Message:
        message: Message = self._call(self._channel.recv)
        return message

    def close(self) -> None:
        self._call(self._channel.aclose)

    def fileno(self) -> int:
        return self._channel.fileno()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        async def next_message() -> Message | None:
            # StopAsyncIteration must not leave the loop: the portal's future cannot carry it.
            async for message in self._messages:
                return message
            return None

        message: Message | None = self._call(next_message)
        if message is None:
            raise StopIteration
        return message
