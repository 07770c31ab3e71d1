"""`AsyncChannel`: a channel with ``await``, on anyio. `_conversation` makes all decisions; this file waits.

There is no ``await`` between the system call that sent or received a message and the return to the caller. So a
cancellation loses no message and no descriptor.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint

from fdpass._ancillary import MAX_FDS
from fdpass._channel_base import ChannelBase
from fdpass._errors import PeerClosed
from fdpass._lending import BytesLike, FdLike, as_sequence, close_given, owners
from fdpass._message import Message
from fdpass._options import MAX_MESSAGE
from fdpass._outbox import Outgoing
from fdpass._policy import Policy

_DONTWAIT = int(socket.MSG_DONTWAIT)
_PAUSE_MIN, _PAUSE_MAX = 0.0005, 0.05  # seconds: no event tells when receivers have taken descriptors in flight
_CALLS_MAX = 16  # every 16th call that need not wait lets other tasks run


class AsyncChannel(ChannelBase):
    """A connected Unix socket that carries messages: bytes and descriptors. The async form of `Channel`.

    One task may send while another receives; tasks that send, or receive, at the same time take turns. A call that
    has to wait is a checkpoint; of the others, every 16th is: a checkpoint costs more than the system call.

    A cancelled `recv` has taken no message. A cancelled `send` withdraws its message, and the descriptors stay
    yours; if only the end of the last frame, or the acknowledgement, was missing, the peer may still get it.

    Args:
        sock: A connected Unix socket, stream or seqpacket. The channel owns it from then on: do not use it.
        acknowledged: As for `Channel`.
        max_message: As for `Channel`.
        max_fds: As for `Channel`.
        policy: As for `Channel`.

    Raises:
        InvalidMessage: ``sock`` is no Unix socket of these types, or a bound is negative. You still own it.
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
        self._has_read: anyio.Event | None = None  # set, and replaced, each time the reading task has read
        self._calls = 0  # calls since the last checkpoint

    async def send(self, data: BytesLike, fds: Iterable[FdLike] = (), *, give: bool = False) -> None:
        """Send one message. Parameters and errors: see `Channel.send`, without `Timeout`."""
        items = fds if type(fds) is list else as_sequence(fds)
        given = owners(items) if give else ()
        self._calls += 1
        if self._calls >= _CALLS_MAX:
            await self._checkpoint()
        out = self._conversation.out
        if self._sending.locked() or out.waiting or not out.send_now(data, items):
            async with self._sending:
                await self._deliver(out.prepare(data, items))
        elif out.waiting:
            async with self._sending:
                await self._push()
        if given:
            close_given(given)

    async def recv(self) -> Message:
        """Receive one message; you own its descriptors. Errors: see `Channel.recv`, without `Timeout`."""
        self._calls += 1
        if self._calls >= _CALLS_MAX:
            await self._checkpoint()
        conversation = self._conversation
        found: Message | bool = True
        if not (conversation.inbox or conversation.ended or conversation.acknowledged or self._reading):
            found = conversation.pull_whole(_DONTWAIT)
            if type(found) is Message:  # the usual case: a whole message has arrived
                if conversation.out.waiting:
                    conversation.flush()
                return found
        if not conversation.inbox:
            conversation.ask_again()
            conversation.flush()
            await self._wait_until(conversation.ready, empty=found is False)
        try:
            return conversation.take()
        finally:
            if conversation.out.waiting:
                conversation.flush()

    def __aiter__(self) -> Self:
        """Receive messages until the peer closes its end; you own the descriptors of each. Errors: as `recv`."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.recv()
        except PeerClosed:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Close the channel, and the descriptors of messages not received. A second call does nothing.

        `recv` and `send` raise `Closed` in the tasks that wait in them.
        """
        if not self.closed:
            self._conversation.flush()
            # Wakes the tasks that wait, and removes the socket from epoll, where it would stay as long as its open
            # file: another process may have a duplicate.
            with contextlib.suppress(RuntimeError):  # no event loop runs, so no task waits
                anyio.notify_closing(self._conversation.sock)
            self._conversation.close()
            self._notify()

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

    # Waiting

    async def _checkpoint(self) -> None:
        self._calls = 0
        await checkpoint()
        self._check_open()

    async def _deliver(self, message: Outgoing) -> None:
        conversation = self._conversation
        try:
            while True:  # until the peer has the message: after RETRY it is sent again
                conversation.queue(message)
                await self._push(message)
                if not conversation.acknowledged:
                    return
                await self._wait_until(lambda: conversation.answered(message))
                if conversation.settle(message):
                    return
                message.check()
        except BaseException:
            conversation.abandon(message)
            conversation.flush()
            raise
        finally:
            message.close()

    async def _push(self, message: Outgoing | None = None) -> None:
        """Send all frames that wait; wait for room where there is none."""
        pause = _PAUSE_MIN
        while self._conversation.out and (state := self._conversation.push()) != "sent":
            if state == "room":
                await self._wait_for_socket(anyio.wait_writable)
            else:
                await anyio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MAX)
            if message is not None:
                message.check()

    async def _wait_until(self, ready: Callable[[], bool], *, empty: bool = False) -> None:
        """Wait until ``ready()``. One task reads for all receivers, and for senders that await answers.

        Args:
            ready: Whether the wait is over.
            empty: Whether the caller has just found nothing to receive.
        """
        while not ready():
            if self._reading:
                if self._has_read is None:
                    self._has_read = anyio.Event()
                await self._has_read.wait()
                continue
            self._reading = True
            try:
                if empty or not self._conversation.pull(_DONTWAIT):
                    empty = False
                    # A checkpoint costs less than epoll_wait(2), and under load a message has come meanwhile.
                    await self._checkpoint()
                    if not self._conversation.pull(_DONTWAIT):
                        await self._wait_for_socket(anyio.wait_readable)
                self._conversation.flush()
            finally:
                self._reading = False
                self._notify()

    async def _wait_for_socket(self, wait: Callable[[Any], Any]) -> None:
        self._calls = 0
        try:
            await wait(self._conversation.sock)
        except anyio.ClosedResourceError:
            self._check_open()
            raise

    def _notify(self) -> None:
        if self._has_read is not None:
            self._has_read.set()
            self._has_read = None
