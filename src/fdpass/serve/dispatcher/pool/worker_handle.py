"""`WorkerHandle`: the dispatcher's picture of one worker: its process, both ends of its channel, and its state."""

from __future__ import annotations

import mmap
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import MAX_MESSAGE, Conversation
from fdpass._fd import Fd
from fdpass._memory import mapped
from fdpass._message import Message
from fdpass._pair import socket_pair
from fdpass.errors import FdpassError, FdsLost
from fdpass.serve.dispatcher.pool import process
from fdpass.serve.shared.ledger import Ledger

_DONTWAIT = int(socket.MSG_DONTWAIT)
_MODULE = "fdpass.serve.worker"


class State(Enum):
    """What a worker does."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"
    GONE = "gone"


MOVES = {
    State.STARTING: {State.READY, State.RETIRING, State.GONE},
    State.READY: {State.RETIRING, State.GONE},
    State.RETIRING: {State.GONE},
    State.GONE: set(),
}
"""From each state, where it may go."""


@dataclass(slots=True)
class Turn:
    """Slots offered to a worker for connections that it accepts itself.

    Attributes:
        listener: Index of the listener where.
        slots: These.
        ended: Others need not wait for it any more.
    """

    listener: int
    slots: list[int]
    ended: bool = False


class WorkerHandle:
    """A worker, as the dispatcher sees it.

    The dispatcher keeps the worker's end of the channel too. So what the worker has not read when it dies, or
    while it does not move, can be read by the dispatcher instead: a connection in it is not lost. And the
    worker still sees the end of file when the dispatcher ends, for nobody else holds the dispatcher's end.

    Attributes:
        row: Its row in the ledger.
        generation: Which it belongs to.
        state: See `State`.
        buffers: The memory of its receive buffers, if its connections are in custody. Owned.
        map: The same, mapped: at its death there may be no descriptor free to do it.
        outgoing: It shall retire as soon as others are ready in its place.
        active: It gets connections.
        live: Connections that it has, or that are on their way to it.
        sent: Connections that were put into its channel, ever, less those taken back.
        turns: Those that it has, in order.
        mark: How far it had read, when `Accepting.look` looked last.
        beat: Its beat then.
        deaf: So many beats it has read nothing, though something waits.
        known: Of its ACCEPTED in the ledger, how much is in the books.
        failure: What it said of why it could not start.
        since: When it came to its state, on the monotonic clock.
        deadline: When it is killed if it has not gone by itself.
        full: When it was last said that it has no room.
        aborted: It was struck down.
        served: It was ready once.
    """

    def __init__(self, row: int, generation: int, ledger: Ledger, buffers: Fd | None) -> None:
        ledger.clear(row)
        near, self._far = socket_pair("seqpacket")
        self.buffers = buffers
        self.map: mmap.mmap | None = None
        try:
            if buffers is not None:
                self.map = mapped(buffers)
            self.child = process.start(_MODULE, self._far)
        except BaseException:
            near.close()
            self._far.close()
            self._close_buffers()
            raise
        self.row = row
        self.generation = generation
        self._ledger = ledger
        self.talk = Conversation(near, acknowledged=False, max_message=MAX_MESSAGE, max_fds=0, policy=None)
        self.state = State.STARTING
        self.outgoing = self.active = False
        self.live = self.sent = self.known = 0
        self.turns: deque[Turn] = deque()
        self.mark: tuple[int, int] = (0, 0)
        self.beat = self.deaf = 0
        self.failure: dict[str, Any] = {}
        self.since = self.began = time.monotonic()
        self.deadline: float | None = None
        self.full = 0.0
        self.aborted = self.served = False

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.child.pid

    @property
    def untaken(self) -> int:
        """How many connections wait in its channel."""
        return self.sent - self._ledger.taken[self.row]

    def move(self, state: State) -> None:
        """Come to another state."""
        assert state in MOVES[self.state], f"{self.state} to {state}"
        self.state = state
        self.since = time.monotonic()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send a message without waiting, descriptors lent. False if it cannot be: nothing was sent."""
        return self.talk.out.send_now(data, fds)

    def tell(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message that must arrive: behind what waits, if there is no room now.

        Descriptors are lent, and have to stay open until it has gone.
        """
        if not self.send(data, fds):
            try:
                self.talk.queue(self.talk.out.prepare(data, fds))
                self.talk.push()
            except FdpassError:
                return

    def unread(self) -> list[Message]:
        """Take back what it has not read. The caller owns the messages.

        If our table of descriptors is full the last of a message's are missing: the kernel closed them.
        """
        far = Conversation(self._far, acknowledged=False, max_message=MAX_MESSAGE, max_fds=MAX_FDS, policy=None)
        while far.pull(_DONTWAIT) and not far.ended:
            pass
        return [_taken(far) for _ in range(len(far.inbox))]

    def limit(self, seconds: float) -> None:
        """It is killed if it has not gone so many seconds from now."""
        self.deadline = time.monotonic() + seconds

    def abort(self) -> None:
        """Make it print its stacks and die: SIGABRT, on which faulthandler acts."""
        self.child.signal(signal.SIGABRT)
        self.aborted = True

    def kill(self) -> None:
        """End it at once. Nothing happens if it has ended."""
        if self.state is not State.GONE:
            self.child.signal(signal.SIGKILL)

    def close(self) -> int:
        """Its process has ended: reap it, close the channel, and return its status."""
        self.talk.close()
        self._far.close()
        self._close_buffers()
        return self.child.reap()

    def _close_buffers(self) -> None:
        if self.map is not None:
            self.map.close()
        if self.buffers is not None:
            self.buffers.close()


def _taken(talk: Conversation) -> Message:
    try:
        return talk.take()
    except FdsLost as loss:
        return Message(loss.data, [fd.take() for fd in loss.fds])
