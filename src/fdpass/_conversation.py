"""`Conversation`: the state of a channel and all its decisions, for `Channel`, `AsyncChannel` and the server.

A conversation never waits, except in a `pull` whose flags let recvmsg block. `Channel` and `AsyncChannel` add the
waiting: for bytes, for room, and for an answer.

In acknowledged mode the receiver answers each message: with ACK as soon as its process owns the whole message, or
with REFUSE if its bounds or its policy do not admit the message. A message that lost descriptors gets no answer
until the next `recv`, which asks for it again (RETRY). The sender, which still owns the descriptors, sends it
again, or answers GONE if its `send` has ended.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import deque

from fdpass import _framing
from fdpass._ancillary import loss_reason, receive
from fdpass._arrivals import checked
from fdpass._errors import (
    CallFailed,
    Closed,
    FdpassError,
    PeerClosed,
    PeerRefused,
    ProtocolError,
    translated,
)
from fdpass._framing import FRAME_MAX, HEADER, Flag, Frame, Kind
from fdpass._losses import FdsLost, LossReason
from fdpass._message import Message, close_all, release
from fdpass._options import check_options
from fdpass._outbox import Outbox, Outgoing
from fdpass._pair import prepare_socket
from fdpass._peer import Peer
from fdpass._policy import Policy

BUFSIZE = FRAME_MAX + HEADER.size
INBOX_MAX = 16  # acknowledged: with so many messages in the inbox, the next ACK is sent when recv takes one out
_HEADER_SIZE = HEADER.size
_TRUNCATED = int(socket.MSG_CTRUNC | socket.MSG_TRUNC)
_UNANSWERED = -1


class Conversation:
    """The state of a channel: messages that arrived, messages in part, and answers that are due.

    Attributes:
        sock: The socket, which the conversation owns.
        acknowledged: Whether each message is answered.
        inbox: Whole messages, and errors in place of messages that could not be delivered; each with the number to
            acknowledge when it is taken out, or None.
        ended: The reason why no more messages will arrive; None while they can.
        out: The frames that wait to be sent.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        acknowledged: bool,
        max_message: int,
        max_fds: int,
        policy: Policy | None,
    ) -> None:
        check_options(max_message=max_message, max_fds=max_fds)
        prepare_socket(sock, descriptors=max_fds > 0)
        self.sock = sock
        self.acknowledged = acknowledged
        self.inbox: deque[tuple[int | None, Message | FdpassError]] = deque()
        self.ended: FdpassError | None = None
        self.out = Outbox(sock, int(Flag.ACKNOWLEDGED) if acknowledged else 0)
        self._policy = policy
        self._max_fds = max_fds
        # The longest frame that `pull` may deliver without the parser; -1: none.
        self._short_path_max = -1 if acknowledged or policy else max_message + HEADER.size
        # Size, count of descriptors and header of the newest message that `_is_whole` accepted. One tuple, so that
        # an exception of a signal handler never leaves parts of two messages.
        self._accepted = (-1, 0, b"")
        self._packets = sock.type == socket.SOCK_SEQPACKET
        self._parser = _framing.Parser(packets=self._packets)
        self._assembler = _framing.Assembler(max_message, max_fds)
        self._between_messages = True  # parser and assembler hold nothing
        self._answers: dict[int, int] = {}  # number of a sent message -> Kind of its answer, or _UNANSWERED
        self._to_ask_for: int | None = None  # number of a message that lost descriptors: the next recv sends RETRY
        self._asked_for: int | None = None  # number of the message for which RETRY was sent
        self._peer: Peer | None = None
        self._loss_reason: LossReason = "unknown"  # of the newest loss, whose message may not be complete yet

    # Sending

    def queue(self, message: Outgoing) -> None:
        """Add a message to the outbox; in acknowledged mode, expect an answer to it."""
        if self.acknowledged:
            self._answers[message.number] = _UNANSWERED
        self.out.queue(message)

    def push(self) -> str:
        """As `Outbox.push`, but raises errors of fdpass."""
        try:
            return self.out.push()
        except OSError as error:
            raise self._translated(error, "cannot send") from error

    def flush(self) -> None:
        """Send the frames that the socket takes now; a later call sends the others."""
        if self.out:
            with contextlib.suppress(FdpassError):  # the next send or recv raises it
                self.push()

    def abandon(self, message: Outgoing) -> None:
        """Give up a message: remove its unsent frames, expect no answer."""
        self._answers.pop(message.number, None)
        self.out.abandon(message)

    def answered(self, message: Outgoing) -> bool:
        """Whether the peer has answered the message, or never will."""
        return self._answers[message.number] != _UNANSWERED or self.ended is not None

    def settle(self, message: Outgoing) -> bool:
        """Evaluate the answer: True if the peer has the message, False if it has to be sent again.

        Raises:
            PeerRefused: The receiver's bounds or policy do not admit the message.
            PeerClosed: The channel ended before an answer came.
        """
        answer = self._answers.pop(message.number)
        if answer == Kind.REFUSE:
            raise PeerRefused("the receiver's max_message, max_fds or policy does not admit this message")
        if answer == _UNANSWERED:
            if isinstance(self.ended, Closed):
                raise self.ended.with_traceback(None)
            raise PeerClosed("the peer closed the channel without acknowledging the message") from self.ended
        return answer == Kind.ACK

    # Receiving

    def pull(self, flags: int = 0) -> bool:
        """As `pull_whole`, but every message goes into the inbox; False if there was nothing to receive."""
        found = self.pull_whole(flags)
        if isinstance(found, Message):
            self.inbox.append((None, found))
        return found is not False

    def pull_whole(self, flags: int) -> Message | bool:
        """Make one recvmsg, and put what it completes into the inbox, except for a message that is one frame.

        Args:
            flags: For recvmsg(2): MSG_DONTWAIT, or 0 to wait if the socket blocks.

        Returns:
            The message that is one frame, which the caller owns; it comes after those in the inbox. True if
            something else came, and False if there was nothing to receive.

        Raises:
            FdpassError: recvmsg failed (the next call can succeed), or the channel has ended.
        """
        try:
            message = receive(self.sock, BUFSIZE, flags)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.ECONNRESET and self._packets:
                return True  # the kernel reports ECONNRESET once, before the messages that are still queued
            why = self._translated(error, "cannot receive")
            if not isinstance(why, PeerClosed):
                raise why from error
            self.drop(why)
            return True
        if self._between_messages and not message.flags & _TRUNCATED:
            data, count = message.data, len(message._raw)  # noqa: SLF001 - len(message) is a call of Python's
            size, descriptors, header = self._accepted
            same = len(data) == size and count == descriptors and data[:_HEADER_SIZE] == header
            if same or self._is_whole(data, count):
                message.data = data[_HEADER_SIZE:]
                return message
        try:
            self._process(message)
        except BaseException as error:
            broken = CallFailed(0, "the channel has ended: an exception interrupted the arrival of a message")
            self.drop(error if isinstance(error, FdpassError) else broken)
            raise
        self._between_messages = self._parser.idle and self._assembler.idle
        return True

    def _is_whole(self, data: bytes, count: int) -> bool:
        """Whether ``data`` and ``count`` descriptors are one frame that is a whole message, within the bounds."""
        if len(data) > self._short_path_max or count > self._max_fds or not _framing.is_whole_message(data, count):
            return False
        self._accepted = len(data), count, data[:_HEADER_SIZE]
        return True

    def ready(self) -> bool:
        """Whether `take` can be called: there is a message or an error."""
        return bool(self.inbox) or self.ended is not None

    def take(self) -> Message:
        """Take the next message out of the inbox; the caller owns it.

        Raises:
            FdpassError: The error in place of a message, or the reason why no more messages will arrive.
        """
        if not self.inbox:
            assert self.ended is not None, "take() without ready()"
            raise self.ended.with_traceback(None)  # or the traceback grows with each recv
        to_acknowledge, item = self.inbox.popleft()
        if to_acknowledge is not None:
            self.out.control(Kind.ACK, to_acknowledge)
        if isinstance(item, FdpassError):
            raise item
        return item

    def ask_again(self) -> None:
        """Ask for the message that lost descriptors, if there is one: `recv` calls this once there may be room."""
        if self._to_ask_for is not None:
            self.out.control(Kind.RETRY, self._to_ask_for)
            self._asked_for, self._to_ask_for = self._to_ask_for, None

    def drop(self, why: FdpassError) -> None:
        """End the receiving: close the descriptors of messages in part. Whole messages stay in the inbox."""
        self.ended = why
        self._close_parts()

    def _close_parts(self) -> None:
        close_all([*self._parser.held(), *self._assembler.held()])

    @property
    def peer(self) -> Peer:
        """The process at the other end, asked for once; the conversation owns it."""
        if self._peer is None:
            self._peer = Peer.of(self.sock)
        return self._peer

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # __init__ has failed
            self._close_parts()

    def close(self) -> None:
        """Close the socket, the peer, and the descriptors of all messages in the inbox."""
        self.drop(Closed("this channel is closed"))
        self.sock.close()
        if self._peer is not None:
            self._peer.close()
        while self.inbox:
            _, item = self.inbox.popleft()
            if isinstance(item, Message):
                item.close()
            elif isinstance(item, FdsLost):
                close_all([fd.take() for fd in item.fds])

    def _process(self, message: Message) -> None:
        raw = release(message)
        dropped = bool(message.flags & socket.MSG_CTRUNC)
        if not message.data and not raw:
            self.drop(PeerClosed("the peer closed the channel"))
            return
        if dropped:
            self._loss_reason = loss_reason(len(raw))
        for frame in self._parser.feed(message.data, raw, dropped=dropped):
            if message.flags & socket.MSG_TRUNC:
                close_all(frame.fds)
                raise ProtocolError("the peer sent a packet that is longer than a frame can be")
            if frame.kind == Kind.MESSAGE:
                self._on_message_frame(frame, message)
            else:
                self._on_answer(frame)

    def _on_message_frame(self, frame: Frame, message: Message) -> None:
        if bool(frame.flags & Flag.ACKNOWLEDGED) != self.acknowledged:
            close_all(frame.fds)
            raise ProtocolError("acknowledged=True is set at one end of the channel only: set it at both or none")
        if self.acknowledged and len(self.inbox) > 2 * INBOX_MAX:
            close_all(frame.fds)
            raise ProtocolError("the peer does not wait until its messages are acknowledged")
        arrived = self._assembler.add(frame)
        unwanted, self._assembler.unwanted = self._assembler.unwanted, []
        close_all(unwanted)
        if arrived is None:
            return
        item: Message | FdpassError
        if arrived.lost and self.acknowledged and not arrived.refused:
            close_all(arrived.fds)
            self._to_ask_for = arrived.number
            item = FdsLost(self._loss_reason, b"", lost=arrived.lost, again=True)
        else:
            item = checked(arrived, message, self._policy, self._loss_reason)
        acknowledge_later = None
        if self.acknowledged and not isinstance(item, FdsLost):
            if isinstance(item, FdpassError):
                self._queue_answer(Kind.REFUSE, arrived.number)
            elif len(self.inbox) < INBOX_MAX:
                self._queue_answer(Kind.ACK, arrived.number)
            else:
                acknowledge_later = arrived.number
        self.inbox.append((acknowledge_later, item))

    def _on_answer(self, frame: Frame) -> None:
        if not self.acknowledged:
            raise ProtocolError("the peer acknowledged a message, but acknowledged=True is not set here")
        if frame.kind == Kind.GONE:
            if frame.number == self._asked_for:
                self._asked_for = None
                self.inbox.append((None, FdsLost("sender gave up", b"")))
        elif frame.number in self._answers:
            self._answers[frame.number] = frame.kind
        elif frame.kind == Kind.RETRY:
            self._queue_answer(Kind.GONE, frame.number)

    def _queue_answer(self, kind: Kind, number: int) -> None:
        if self.out.control_frames > 2 * INBOX_MAX:
            raise ProtocolError("the peer does not read the answers to its messages")
        self.out.control(kind, number)

    def _translated(self, error: OSError, doing: str) -> FdpassError:
        if self.sock.fileno() < 0:
            return Closed("this channel is closed")
        if error.errno == errno.EPERM:
            return PeerRefused("the peer's socket, or a security module, admits no descriptors: send none")
        return translated(error, doing)
