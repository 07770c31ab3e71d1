"""`Channel`: messages of any size, each of which arrives with exactly its own descriptors. Blocking.

`_conversation` makes all decisions; this file waits, with poll(2) and locks.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from _thread import _count as other_threads
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from fdpass._ancillary import MAX_FDS
from fdpass._channel_base import ChannelBase
from fdpass._errors import Closed, PeerClosed, Timeout
from fdpass._lending import BytesLike, FdLike, as_sequence, close_given, owners
from fdpass._message import Message
from fdpass._options import MAX_MESSAGE
from fdpass._outbox import Outgoing
from fdpass._policy import Policy
from fdpass._waiting import Waits, check_timeout, deadline_of, left

_DONTWAIT = int(socket.MSG_DONTWAIT)
_PAUSE_MIN, _PAUSE_MAX = 0.0005, 0.05  # seconds: no event tells when receivers have taken descriptors in flight


class Channel(ChannelBase):
    """A connected Unix socket that carries messages: bytes and descriptors.

    One thread may send while another receives; threads that send, or receive, at the same time take turns.

    Args:
        sock: A connected Unix socket, stream or seqpacket. The channel owns it from then on: do not use it.
        acknowledged: `send` returns when the peer's process has the message, with all its descriptors. Set it
            at both ends, or at none.
        max_message: The most bytes of a message that `recv` accepts, 0 or more.
        max_fds: The most descriptors of a message that `recv` accepts, 0 or more. With 0, the kernel refuses
            them at the sender (SO_PASSRIGHTS, Linux 6.16), and no message above 64 KiB comes over seqpacket.
        policy: The descriptors that `recv` admits; None admits all.

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
        self._timeout: float | None = None
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        self._turn = threading.Condition(threading.Lock())
        self._waits = Waits()

    def send(self, data: BytesLike, fds: Iterable[FdLike] = (), *, give: bool = False) -> None:
        """Send one message.

        Args:
            data: Bytes-like, of any size. On a seqpacket channel more than 64 KiB travel in a sealed memfd.
            fds: Ints, `Fd` or objects with ``fileno()``, any number. Lent, unless ``give``; keep them open until
                `send` returns. While it waits it sees that an object was closed, but not that a bare int was:
                then it sends the file that has the number by then.
            give: Close them once the kernel took them, or, in acknowledged mode, once the peer has them. On
                failure they stay yours.

        Raises:
            NotADescriptor: An item of ``fds`` is no descriptor, or cannot be given. Nothing was sent.
            InvalidMessage: Two objects that you give own one descriptor. Nothing was sent.
            Closed: The channel, or a descriptor, is closed, or was closed while `send` waited.
            PeerClosed: The peer closed its end, or died.
            PeerRefused: In acknowledged mode: the receiver's bounds or policy do not admit this message. Else: the
                receiver's kernel admits no descriptors (its ``max_fds`` is 0).
            Timeout: Time ran out, and the message was withdrawn. If only the end of its last frame, or only its
                acknowledgement, was missing, the peer may still get it. The descriptors stay yours.
            CallFailed: sendmsg(2) failed for another reason (`BadDescriptor`, ...).
        """
        items = fds if type(fds) is list else as_sequence(fds)
        given = owners(items) if give else ()
        deadline = None
        if self._timeout is None:
            self._sending.acquire()
        elif not self._sending.acquire(timeout=left(deadline := deadline_of(self._timeout))):
            raise Timeout("timed out: another thread is sending on this channel")
        try:
            if self._waits.ended:
                self._check_open()
            out = self._conversation.out
            if not out.send_now(data, items):
                self._deliver(out.prepare(data, items), deadline)
            elif out.waiting:
                self._push(deadline)
        finally:
            self._sending.release()
            if self._waits.ended:
                self._finish()
        if given:
            close_given(given)

    def recv(self) -> Message:
        """Receive one message; you own its descriptors.

        Raises:
            PeerClosed: The peer closed its end, and you have received all that it sent.
            FdsLost: Descriptors of this message did not arrive. In acknowledged mode they are not lost: make
                room, and receive again.
            MessageTooLarge: A message above ``max_message`` or ``max_fds`` came, and was dropped.
            PolicyError: Descriptors came that the policy does not admit; they are closed.
            ProtocolError: The peer broke the channel's protocol. The channel has ended.
            Closed: The channel is closed.
            Timeout: Time ran out.
            CallFailed: recvmsg(2) failed for another reason.
        """
        conversation = self._conversation
        deadline = None
        if self._timeout is None:
            self._receiving.acquire()
        elif not self._receiving.acquire(timeout=left(deadline := deadline_of(self._timeout))):
            raise Timeout("timed out: another thread is receiving on this channel")
        try:
            if conversation.acknowledged:
                return self._recv_acknowledged(deadline)
            # recvmsg may wait where no other thread can close the channel: that saves two system calls.
            flags = _DONTWAIT if deadline is not None or other_threads() else 0
            if not (conversation.inbox or conversation.ended):
                found = conversation.pull_whole(flags)
                if type(found) is Message:
                    if conversation.out.waiting:
                        conversation.flush()
                    return found
            while not conversation.inbox and not conversation.ended:
                self._read(deadline)
            return conversation.take()
        finally:
            self._receiving.release()
            if self._waits.ended:
                self._finish()

    def _recv_acknowledged(self, deadline: float | None) -> Message:
        conversation = self._conversation
        if not conversation.inbox:
            conversation.ask_again()
            conversation.flush()
        self._wait_until(conversation.ready, deadline)
        try:
            return conversation.take()
        finally:
            conversation.flush()

    def __iter__(self) -> Iterator[Message]:
        """Receive messages until the peer closes its end; you own the descriptors of each. Errors: as `recv`."""
        while True:
            try:
                message = self.recv()
            except PeerClosed:
                return
            yield message

    def settimeout(self, seconds: float | None) -> None:
        """Limit how long each later `send` and `recv` may wait.

        Args:
            seconds: 0 or more; 0 does not wait at all; None, the default, or infinity waits without limit.

        Raises:
            InvalidMessage: ``seconds`` is negative or not a number.
        """
        check_timeout(seconds)
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """The limit that `settimeout` set, in seconds; None: no limit."""
        return self._timeout

    def close(self) -> None:
        """Close the channel, and the descriptors of messages that were not received. A second call does nothing.

        `recv` and `send` raise `Closed` in other threads that wait in them; the socket is closed when the last of
        these threads has left. A signal handler may call it, too.
        """
        if self.closed:
            return
        self._conversation.ended = Closed("this channel is closed")
        self._waits.end()
        if not other_threads() and (self._receiving.locked() or self._sending.locked()):
            self._conversation.close()  # a signal handler interrupts this thread's own call, which finds it closed
        self._finish()

    def fileno(self) -> int:
        """The socket's number, lent, for poll(2). -1 once the channel is closed."""
        return -1 if self._waits.ended else self._conversation.sock.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def _finish(self) -> None:
        """Close the socket once no thread is in `send` or `recv`. Each thread that leaves calls this."""
        while not (self._sending.locked() or self._receiving.locked()):
            if self._sending.acquire(blocking=False):
                try:
                    if self._receiving.acquire(blocking=False):
                        try:
                            self._close_all()
                        finally:
                            self._receiving.release()
                        return
                finally:
                    self._sending.release()

    def _close_all(self) -> None:
        if self._conversation.sock.fileno() >= 0:
            self._conversation.flush()
            self._conversation.close()
        self._waits.close()

    def _after_fork(self) -> None:
        """Forget the parent's threads: they may have held the locks. For `tell_after_fork`."""
        super()._after_fork()
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self._turn = threading.Condition(threading.Lock())
        self._waits.after_fork()
        if self._waits.ended:
            self._finish()

    # Waiting

    def _deliver(self, message: Outgoing, deadline: float | None) -> None:
        conversation = self._conversation
        try:
            while True:  # until the peer has the message: after RETRY it is sent again
                conversation.queue(message)
                self._push(deadline, message)
                if not conversation.acknowledged:
                    return
                self._wait_until(lambda: conversation.answered(message), deadline)
                if conversation.settle(message):
                    return
                message.check()
        except BaseException:
            conversation.abandon(message)
            conversation.flush()
            raise
        finally:
            message.close()

    def _push(self, deadline: float | None, message: Outgoing | None = None) -> None:
        """Send all frames that wait; wait for room where there is none."""
        pause = _PAUSE_MIN
        while self._conversation.out and (state := self._conversation.push()) != "sent":
            if state == "room":
                self._poll(select.POLLOUT, deadline)
            else:
                self._check_open()
                seconds = left(deadline)
                if seconds == 0:
                    raise Timeout("timed out: too many descriptors are in flight, or the kernel has no memory")
                time.sleep(pause if seconds < 0 else min(pause, seconds))
                pause = min(pause * 2, _PAUSE_MAX)
            if message is not None:
                message.check()

    def _wait_until(self, ready: Callable[[], bool], deadline: float | None) -> None:
        """Wait until ``ready()``. One thread reads for all receivers, and for senders that await answers."""
        with self._turn:
            while not ready():
                if self._reading:
                    if not self._turn.wait(None if deadline is None else left(deadline)):
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
        conversation = self._conversation
        if not conversation.pull(_DONTWAIT if deadline is not None or other_threads() else 0):
            self._poll(select.POLLIN, deadline)
        conversation.flush()

    def _poll(self, event: int, deadline: float | None) -> None:
        self._check_open()
        if not self._waits.wait(self._conversation.sock, event, deadline):
            raise Timeout("timed out")
