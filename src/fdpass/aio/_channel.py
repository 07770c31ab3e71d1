"""`AsyncChannel`: what `Channel` is, on anyio. All that is decided is decided in `_conversation`; this waits.

Between a system call that took or gave a message and the return to the caller there is no ``await``: that is
why a cancellation loses nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import MAX_MESSAGE
from fdpass._end import End
from fdpass._errors import PeerClosed
from fdpass._lending import check_givable, close_given, listed
from fdpass._message import Message
from fdpass._outbox import Outgoing
from fdpass._policy import Policy

_DONTWAIT = int(socket.MSG_DONTWAIT)
_PAUSE_MIN, _PAUSE_MAX = 0.0005, 0.05  # seconds: no event tells when descriptors in flight have landed
_RUN = 16  # so many calls that need not wait may pass before one lets other tasks run


class AsyncChannel(End):
    """A connected Unix socket with messages: bytes and descriptors. See `Channel` for what is the same.

    Any task may send while another receives; several that send, or receive, take turns. A call that has to
    wait is a checkpoint; of those that need not, every 16th is: a checkpoint costs more than the system call.

    A cancelled `recv` has taken nothing. A cancelled `send` is called off, and what you wanted to give is
    yours; if only the end of its last frame, or its acknowledgement, was missing, the peer may still get it.

    Args:
        sock: A connected Unix socket, stream or seqpacket. The channel owns it now.
        acknowledged: As of `Channel`.
        max_message: As of `Channel`.
        max_fds: As of `Channel`.
        policy: As of `Channel`.

    Raises:
        InvalidMessage: It is no Unix socket of these types, or a bound is negative. The socket stays yours.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        acknowledged: bool = False,
        max_message: int = MAX_MESSAGE,
        max_fds: int = MAX_FDS,
        policy: Policy | None = None,
    ) -> None:
        super().__init__(sock, acknowledged=acknowledged, max_message=max_message, max_fds=max_fds, policy=policy)
        self._sending = anyio.Lock(fast_acquire=True)
        self._changed: anyio.Event | None = None
        self._run = 0

    async def send(self, data: Any, fds: Iterable[Any] = (), *, give: bool = False) -> None:
        """Send one message: as `Channel.send`, with cancellation in the place of timeouts."""
        items = listed(fds)
        if give:
            check_givable(items)
        self._run += 1
        if self._run >= _RUN:
            await self._breathe()
        if self._sending.locked() or self._talk.out or not self._talk.out.send_now(data, items):
            async with self._sending:
                await self._deliver(self._talk.out.prepare(data, items))
        elif self._talk.out:
            async with self._sending:
                await self._push()
        if give:
            close_given(items)

    async def recv(self) -> Message:
        """Receive one message: as `Channel.recv`, with cancellation in the place of timeouts."""
        self._run += 1
        if self._run >= _RUN:
            await self._breathe()
        talk = self._talk
        if not (talk.inbox or talk.ended or talk.acknowledged or self._reading):
            talk.pull(_DONTWAIT)  # the usual case: it is there, and whole
        if not talk.inbox:
            talk.ask_again()
            talk.flush()
            await self._until(talk.ready)
        try:
            return talk.take()
        finally:
            if talk.out:
                talk.flush()

    def __aiter__(self) -> Self:
        """Messages until the peer closes its end."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.recv()
        except PeerClosed:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Close the channel, and the descriptors of messages not received. Who waits in it gets `Closed`."""
        if not self.closed:
            self._talk.flush()
            # Wakes who waits, and takes the registration out of epoll, where it follows the description.
            anyio.notify_closing(self._talk.sock)
            self._talk.close()
            self._notify()

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

    # Waiting

    async def _breathe(self) -> None:
        self._run = 0
        await checkpoint()
        self._check_open()

    async def _deliver(self, message: Outgoing) -> None:
        talk = self._talk
        try:
            while True:
                talk.queue(message)
                await self._push()
                if not talk.acknowledged:
                    return
                await self._until(lambda: talk.answered(message))
                if talk.settle(message):
                    return
        except BaseException:
            talk.abandon(message)
            talk.flush()
            raise
        finally:
            message.close()

    async def _push(self) -> None:
        pause = _PAUSE_MIN
        while self._talk.out and (state := self._talk.push()) != "sent":
            if state == "room":
                await self._wait(anyio.wait_writable)
            else:
                await anyio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MAX)

    async def _until(self, ready: Callable[[], bool]) -> None:
        """Until ``ready``: one task reads for all, the others wait for what it got."""
        while not ready():
            if self._reading:
                if self._changed is None:
                    self._changed = anyio.Event()
                await self._changed.wait()
                continue
            self._reading = True
            try:
                if not self._talk.pull(_DONTWAIT):
                    # A turn of the loop costs less than falling asleep: under load the next one is there by then.
                    await self._breathe()
                    if not self._talk.pull(_DONTWAIT):
                        await self._wait(anyio.wait_readable)
                self._talk.flush()
            finally:
                self._reading = False
                self._notify()

    async def _wait(self, wait: Callable[[Any], Any]) -> None:
        self._run = 0
        try:
            await wait(self._talk.sock)
        except anyio.ClosedResourceError:
            self._check_open()
            raise

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
