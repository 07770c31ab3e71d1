"""What a channel does between two waits: the one core of `Channel` and `AsyncChannel`.

Nothing here waits, but for a `pull` that was told it may: it makes one recvmsg and digests what came. How to
wait, for bytes, for room, for an answer, is all that the two kinds of channel add.

In acknowledged mode the receiver answers each message as soon as its process owns all of it (ACK), or that it
never will (REFUSE). A message that lost descriptors is not acknowledged: the next `recv` asks for it again
(RETRY), and the sender, which still owns the descriptors, sends it again, or says that it gave up (GONE).
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import deque

from fdpass import _framing
from fdpass._ancillary import receive, why_lost
from fdpass._errors import (
    CallFailed,
    Closed,
    FdpassError,
    InvalidMessage,
    MessageTooLarge,
    PeerClosed,
    PeerRefused,
    PolicyError,
    ProtocolError,
    translated,
)
from fdpass._fd import Fd
from fdpass._framing import FRAME_MAX, HEADER, Arrived, Flag, Frame, Kind
from fdpass._losses import FdsLost, LossReason
from fdpass._memory import contents
from fdpass._message import Message, close_all, release
from fdpass._outbox import Outbox, Outgoing
from fdpass._peer import Peer
from fdpass._policy import Policy

MAX_MESSAGE = 16 * 2**20
BUFSIZE = FRAME_MAX + HEADER.size
HELD_BACK = 16  # so many messages may wait here for recv before a peer that waits for ACK is held back
_CUT = int(socket.MSG_CTRUNC | socket.MSG_TRUNC)
_SO_PASSRIGHTS = 83  # Linux 6.16: with 0, a sender of descriptors to this socket gets EPERM


class Conversation:
    """The state of a channel: what arrived, what is half there, owed and awaited.

    Attributes:
        inbox: Whole messages, and errors in the place of those that could not be taken.
        ended: Why nothing more will arrive; None while it may.
        out: What waits to be sent.
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
        if sock.family != socket.AF_UNIX or sock.type not in {socket.SOCK_STREAM, socket.SOCK_SEQPACKET}:
            raise InvalidMessage(
                f"a channel is made of a Unix socket of type stream or seqpacket, not of {sock!r}"
            )
        if max_message < 0 or max_fds < 0:
            raise InvalidMessage("max_message and max_fds are 0 or more")
        if sock.gettimeout():  # a Python timeout would wait inside sendmsg; O_NONBLOCK itself stays as it is
            sock.setblocking(False)
        self.sock = sock
        self.acknowledged = acknowledged
        self.inbox: deque[tuple[int | None, Message | FdpassError]] = deque()
        self.ended: FdpassError | None = None
        self.out = Outbox(sock, int(Flag.ACKNOWLEDGED) if acknowledged else 0)
        self._policy = policy
        self._max_fds = max_fds
        self._max_plain = -1 if acknowledged or policy else max_message + HEADER.size
        self._packets = sock.type == socket.SOCK_SEQPACKET
        self._parser = _framing.Parser(packets=self._packets)
        self._assembler = _framing.Assembler(max_message, max_fds)
        self._between = True  # nothing is half there
        self._answers: dict[int, int] = {}  # the number of a message that waits for its answer -> Kind, or -1
        self._missed: int | None = None  # the number of a message that lost descriptors: to be asked for again
        self._asked: int | None = None  # the number of one that was asked for
        self._peer: Peer | None = None
        self._reason: LossReason = "unknown"  # of the newest loss: its message may still be on its way
        if max_fds == 0:
            with contextlib.suppress(OSError):  # ENOPROTOOPT: an older kernel, where we close what comes
                sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)

    # Sending

    def queue(self, message: Outgoing) -> None:
        if self.acknowledged:
            self._answers[message.number] = -1
        self.out.queue(message)

    def push(self) -> str:
        """As `Outbox.push`, with errors of fdpass."""
        try:
            return self.out.push()
        except OSError as error:
            raise self._explained(error, "cannot send") from error

    def flush(self) -> None:
        """Send what is owed, if it goes without waiting; else the next call will."""
        if self.out:
            with contextlib.suppress(FdpassError):  # a peer that is gone will be noticed where it matters
                self.push()

    def abandon(self, message: Outgoing) -> None:
        self._answers.pop(message.number, None)
        self.out.abandon(message)

    def answered(self, message: Outgoing) -> bool:
        return self._answers[message.number] >= 0 or self.ended is not None

    def settle(self, message: Outgoing) -> bool:
        """What the peer answered: True if it has the message, False if it is to be sent again.

        Raises:
            PeerRefused: It will never take it.
            PeerClosed: It is gone, and did not say that it has it.
        """
        answer = self._answers.pop(message.number)
        if answer == Kind.REFUSE:
            raise PeerRefused("the receiver does not admit this message: its max_message, max_fds or policy")
        if answer < 0:
            raise PeerClosed("the peer closed the channel without acknowledging the message") from self.ended
        return answer == Kind.ACK

    # Receiving

    def pull(self, flags: int = 0) -> bool:
        """One recvmsg, digested: False if nothing was there.

        Raises:
            FdpassError: The channel cannot go on; everything it held is closed.
        """
        try:
            message = receive(self.sock, BUFSIZE, flags)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.ECONNRESET and self._packets:
                return True  # ECONNRESET comes once, ahead of what is still queued: go on reading
            found = self._explained(error, "cannot receive")
            if not isinstance(found, PeerClosed):
                raise found from error
            self.drop(found)
            return True
        if (
            self._between
            and len(message.data) <= self._max_plain
            and (count := len(message)) <= self._max_fds
            and not message.flags & _CUT
            and _framing.plain(message.data, count)
        ):
            message.data = message.data[HEADER.size :]
            self.inbox.append((None, message))
            return True
        try:
            self._digest(message)
        except BaseException as error:
            broken = CallFailed(0, "a message was lost in the middle of its arrival")
            self.drop(error if isinstance(error, FdpassError) else broken)
            raise
        self._between = self._parser.idle and self._assembler.idle
        return True

    def ready(self) -> bool:
        """Whether `take` has something to say."""
        return bool(self.inbox) or self.ended is not None

    def take(self) -> Message:
        """The next message. Raises what stands in a message's place, or why nothing more will come."""
        if not self.inbox:
            assert self.ended is not None, "take() without ready()"
            raise self.ended.with_traceback(None)  # which would grow with each recv
        owed, item = self.inbox.popleft()
        if owed is not None:
            self.out.control(Kind.ACK, owed)
        if isinstance(item, FdpassError):
            raise item
        return item

    def ask_again(self) -> None:
        """`recv` was called: what was missed for want of room is wanted now."""
        if self._missed is not None:
            self.out.control(Kind.RETRY, self._missed)
            self._asked, self._missed = self._missed, None

    def drop(self, why: FdpassError) -> None:
        """Nothing more will come: close what was half there. Messages that arrived whole can still be taken."""
        self.ended = why
        close_all(self._parser.held())
        close_all(self._assembler.held())

    @property
    def peer(self) -> Peer:
        """Who is at the other end; asked once."""
        if self._peer is None:
            self._peer = Peer.of(self.sock)
        return self._peer

    def close(self) -> None:
        """Close the socket, and everything that was not taken."""
        self.drop(Closed("this channel is closed"))
        self.sock.close()
        if self._peer is not None:
            self._peer.close()
        while self.inbox:
            _, item = self.inbox.popleft()
            if isinstance(item, Message):
                item.close()
            for fd in getattr(item, "fds", ()):
                fd.close()

    def _digest(self, message: Message) -> None:
        raw = release(message)
        dropped = bool(message.flags & socket.MSG_CTRUNC)
        if not message.data and not raw:
            self.drop(PeerClosed("the peer closed the channel"))
            return
        if dropped:
            self._reason = why_lost(len(raw))
        for frame in self._parser.feed(message.data, raw, dropped=dropped):
            if message.flags & socket.MSG_TRUNC:
                close_all(frame.fds)
                raise ProtocolError("a packet is longer than a frame can be")
            if frame.kind == Kind.MESSAGE:
                self._message(frame, message)
            else:
                self._answer(frame)

    def _message(self, frame: Frame, message: Message) -> None:
        if bool(frame.flags & Flag.ACKNOWLEDGED) != self.acknowledged:
            close_all(frame.fds)
            raise ProtocolError("acknowledged=True is set at one end of the channel only")
        if self.acknowledged and len(self.inbox) > 2 * HELD_BACK:
            close_all(frame.fds)
            raise ProtocolError("the peer sends on without waiting for its messages to be acknowledged")
        arrived = self._assembler.add(frame)
        close_all(self._assembler.unwanted)
        self._assembler.unwanted.clear()
        if arrived is None:
            return
        item = self._judged(arrived, message)
        owed = None
        if self.acknowledged and not isinstance(item, FdsLost):
            if isinstance(item, FdpassError):
                self._owe(Kind.REFUSE, arrived.number)
            elif len(self.inbox) < HELD_BACK:
                self._owe(Kind.ACK, arrived.number)
            else:
                owed = arrived.number
        self.inbox.append((owed, item))

    def _judged(self, arrived: Arrived, message: Message) -> Message | FdpassError:
        """A message as its receiver shall see it: what this returns owns the descriptors that are still open."""
        if arrived.refused:
            return MessageTooLarge(90, arrived.refused)
        if arrived.lost and self.acknowledged:
            close_all(arrived.fds)
            self._missed = arrived.number
            return FdsLost(self._reason, b"", lost=arrived.lost, again=True)
        data = arrived.data
        if arrived.memfd is not None:
            memfd, *fds = arrived.fds
            try:
                with Fd(memfd) as held:
                    data = contents(held, arrived.memfd)
            except BaseException:
                close_all(fds)
                raise
            arrived = arrived._replace(fds=fds)
        if arrived.lost:
            return FdsLost(self._reason, data, tuple(map(Fd, arrived.fds)), lost=arrived.lost)
        if self._policy is not None and (objection := self._policy.objection(arrived.fds)):
            close_all(arrived.fds)
            return PolicyError(objection, data)
        return Message(data, arrived.fds, message.credentials, message.flags)

    def _answer(self, frame: Frame) -> None:
        if not self.acknowledged:
            raise ProtocolError("an answer came to a message that wanted none")
        if frame.kind == Kind.GONE:
            if frame.number == self._asked:
                self._asked = None
                self.inbox.append((None, FdsLost("sender gave up", b"")))
        elif frame.number in self._answers:
            self._answers[frame.number] = frame.kind
        elif frame.kind == Kind.RETRY:
            self._owe(Kind.GONE, frame.number)

    def _owe(self, kind: Kind, number: int) -> None:
        if self.out.owed > 2 * HELD_BACK:
            raise ProtocolError("the peer does not read the answers to what it sends")
        self.out.control(kind, number)

    def _explained(self, error: OSError, doing: str) -> FdpassError:
        if self.sock.fileno() < 0:
            return Closed("this channel is closed")
        if error.errno == errno.EPERM:
            return PeerRefused("the peer's socket, or this machine's policy, admits no descriptors")
        return translated(error, doing)
