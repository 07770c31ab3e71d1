"""`Channel`: messages of any size with any number of descriptors, each arriving with exactly its own. Blocking.

All that is decided is decided in `_conversation`; this file waits.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import MAX_MESSAGE
from fdpass._end import End
from fdpass._errors import InvalidMessage, PeerClosed, Timeout, translated
from fdpass._lending import check_givable, close_given, listed
from fdpass._message import Message
from fdpass._outbox import Outgoing
from fdpass._policy import Policy

_DONTWAIT = int(socket.MSG_DONTWAIT)
_PAUSE_MIN, _PAUSE_MAX = 0.0005, 0.05  # seconds: no event tells when descriptors in flight have landed


class Channel(End):
    """A connected Unix socket with messages: bytes and descriptors.

    Any thread may send while another receives; several that send, or receive, take turns.

    Args:
        sock: A connected Unix socket, stream or seqpacket. The channel owns it now. Do not use it beside.
        acknowledged: `send` returns when the peer's process has the message, with all its descriptors. Set it
            at both ends, or at none.
        max_message: The most bytes of a message that will be received, 0 or more.
        max_fds: The most descriptors of a message that will be received, 0 or more. With 0, the kernel is asked
            to let none through (SO_PASSRIGHTS, Linux 6.16), and no message above 64 KiB comes over seqpacket.
        policy: What the descriptors must be.

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
        self._timeout: float | None = None
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._turn = threading.Condition(threading.Lock())

    def send(self, data: Any, fds: Iterable[Any] = (), *, give: bool = False) -> None:
        """Send one message.

        Args:
            data: Bytes-like, of any size. On a seqpacket channel more than 64 KiB travel in a sealed memfd.
            fds: Ints, `Fd` or objects with ``fileno()``, any number. Lent, unless ``give``.
            give: Close them once the kernel took them, or, in acknowledged mode, once the peer has them. On
                failure they stay yours.

        Raises:
            NotADescriptor: Before anything is sent.
            Closed: The channel, or a descriptor, is closed.
            PeerClosed: The peer is gone.
            PeerRefused: In acknowledged mode: the peer will not take this message. Or its kernel lets no
                descriptors through.
            Timeout: Time ran out. The message is called off if it can be; if only the end of its last frame was
                missing, or only its acknowledgement, the peer may still get it. You keep yours either way.
            CallFailed: sendmsg(2) failed for another reason (`BadDescriptor`, ...).
        """
        items = listed(fds)
        if give:
            check_givable(items)
        deadline = None
        if self._timeout is None:
            self._sending.acquire()
        elif not self._sending.acquire(timeout=_left(deadline := self._deadline())):
            raise Timeout("another thread is sending")
        try:
            if self._talk.out.send_now(data, items):
                if self._talk.out:
                    self._push(deadline)
            else:
                self._deliver(self._talk.out.prepare(data, items), deadline)
        finally:
            self._sending.release()
        if give:
            close_given(items)

    def recv(self) -> Message:
        """Receive one message; you own its descriptors.

        Raises:
            PeerClosed: The peer closed its end, and everything that it sent has been received.
            FdsLost: Descriptors of this message did not arrive. In acknowledged mode they are not lost: make
                room, and receive again.
            MessageTooLarge: A message beyond ``max_message`` or ``max_fds`` came, and was dropped.
            PolicyError: Descriptors came that the policy does not admit, and were closed.
            ProtocolError: The peer does not speak as a channel does. The channel has ended.
            Closed: The channel is closed.
            Timeout: Time ran out.
        """
        talk = self._talk
        deadline = None
        if self._timeout is None:
            self._receiving.acquire()
        elif not self._receiving.acquire(timeout=_left(deadline := self._deadline())):
            raise Timeout("another thread is receiving")
        try:
            if talk.acknowledged:
                return self._recv_acknowledged(deadline)
            while not talk.inbox and not talk.ended:
                self._read(deadline)
            return talk.take()
        finally:
            self._receiving.release()

    def _recv_acknowledged(self, deadline: float | None) -> Message:
        talk = self._talk
        if not talk.inbox:
            talk.ask_again()
            talk.flush()
        self._until(talk.ready, deadline)
        try:
            return talk.take()
        finally:
            talk.flush()

    def __iter__(self) -> Iterator[Message]:
        """Messages until the peer closes its end."""
        while True:
            try:
                message = self.recv()
            except PeerClosed:
                return
            yield message

    def settimeout(self, seconds: float | None) -> None:
        """Bound each later `send` and `recv`: seconds, 0 for "at once or not at all", None for ever."""
        if seconds is not None and seconds < 0:
            raise InvalidMessage("a timeout is 0 or more seconds, or None")
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """The bound that `settimeout` set, in seconds."""
        return self._timeout

    def close(self) -> None:
        """Close the channel, and the descriptors of messages that were not received. Twice does nothing."""
        if not self.closed:
            self._talk.flush()
            self._talk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    # Waiting

    def _deliver(self, message: Outgoing, deadline: float | None) -> None:
        talk = self._talk
        try:
            while True:  # until the peer no longer asks for it again
                talk.queue(message)
                self._push(deadline)
                if not talk.acknowledged:
                    return
                self._until(lambda: talk.answered(message), deadline)
                if talk.settle(message):
                    return
        except BaseException:
            talk.abandon(message)
            talk.flush()
            raise
        finally:
            message.close()

    def _push(self, deadline: float | None) -> None:
        pause = _PAUSE_MIN
        while self._talk.out and (state := self._talk.push()) != "sent":
            if state == "room":
                self._poll(select.POLLOUT, deadline)
                continue
            left = _left(deadline)
            if left == 0:
                raise Timeout("too many descriptors in flight, or no memory for more")
            time.sleep(pause if left < 0 else min(pause, left))
            pause = min(pause * 2, _PAUSE_MAX)

    def _until(self, ready: Callable[[], bool], deadline: float | None) -> None:
        """Until ``ready``, where senders wait too, for answers: one thread reads, and all hear what it got."""
        with self._turn:
            while not ready():
                if self._reading:
                    if not self._turn.wait(None if deadline is None else _left(deadline)):
                        raise Timeout("timed out")
                    continue
                self._reading = True
                self._turn.release()
                try:
                    self._read(deadline)
                finally:
                    self._turn.acquire()
                    self._reading = False
                    self._turn.notify_all()

    def _read(self, deadline: float | None) -> None:
        talk = self._talk
        if not talk.pull(0 if deadline is None else _DONTWAIT):
            self._poll(select.POLLIN, deadline)
        talk.flush()

    def _poll(self, event: int, deadline: float | None) -> None:
        self._check_open()
        poll = select.poll()
        poll.register(self._talk.sock, event)
        left = _left(deadline)
        try:
            found = poll.poll(None if left < 0 else left * 1000)
        except OSError as error:
            raise translated(error, "cannot wait for the channel") from error
        if not found:
            raise Timeout("timed out")

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout


def _left(deadline: float | None) -> float:
    """Seconds until then: 0 if it has passed, -1 if there is none (what a lock's acquire() takes for ever)."""
    return -1 if deadline is None else max(0.0, deadline - time.monotonic())
