"""`WorkerHandle`: the dispatcher's record of one worker: its process, both ends of its channel, and its state."""

from __future__ import annotations

import mmap
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import Conversation
from fdpass._fd import Fd
from fdpass._memory import mapped
from fdpass._message import Message
from fdpass._options import MAX_MESSAGE
from fdpass._pair import socket_pair
from fdpass.errors import FdpassError, FdsLost
from fdpass.serve.dispatcher.pool import process
from fdpass.serve.keeper.estate import Mark, Row, Stage
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.ledger import Ledger

_DONTWAIT = int(socket.MSG_DONTWAIT)
_MODULE = "fdpass.serve.worker"


class State(Enum):
    """The stages of a worker's life."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"
    GONE = "gone"


TRANSITIONS = {
    State.STARTING: {State.READY, State.RETIRING, State.GONE},
    State.READY: {State.RETIRING, State.GONE},
    State.RETIRING: {State.GONE},
    State.GONE: set(),
}
"""For each state, the states that can follow it."""


_STATES = [State.GONE, State.STARTING, State.READY, State.RETIRING]
"""By `Stage`."""


class _Flag:
    """An attribute that is true or false, and that the next dispatcher finds."""

    def __init__(self, mark: Mark) -> None:
        self._mark = int(mark)

    def __get__(self, worker: WorkerHandle, owner: type[WorkerHandle]) -> bool:
        return bool(worker.words[Row.FLAGS] & self._mark)

    def __set__(self, worker: WorkerHandle, value: bool) -> None:
        words = worker.words
        words[Row.FLAGS] = words[Row.FLAGS] | self._mark if value else words[Row.FLAGS] & ~self._mark


@dataclass(slots=True)
class Turn:
    """Slots offered to a worker for connections that it accepts itself.

    Attributes:
        listener: Index of the listener.
        slots: The slots.
        closed: The listener is watched again, whether or not the worker has reported.
    """

    listener: int
    slots: list[int]
    closed: bool = False


class WorkerHandle:
    """A worker, as the dispatcher sees it.

    The dispatcher keeps the worker's end of the channel open too. So it can read what the worker has not read when
    the worker dies or is stuck, and no connection in the channel is lost. The worker still sees the end of file
    when the dispatcher ends, because no other process has the dispatcher's end.

    Attributes:
        row: Its row in the ledger.
        words: Its words in the estate. Lent.
        generation: Number of its generation.
        state: See `State`.
        buffers: The memory of its receive buffers; None without custody. Owned.
        buffers_map: The same, mapped from the start: at the worker's death no descriptor may be free.
        child: Its process.
        conversation: The dispatcher's end of the channel.
        to_retire: It retires as soon as another worker is ready in its place.
        active: It gets connections.
        sent: How many connections were ever put into its channel, less those taken back.
        turns: Its turns, the oldest first.
        accepted: How many of the connections that it accepted itself are in `Connections`.
        early_ends: Slots of its turns, whose connections have ended before it reported that it accepted them.
        failure: What it reported about why it could not start.
        started_at: When its process was started, on the monotonic clock.
        state_since: When it came to its state.
        deadline: When it is killed if it has not ended.
        full_logged_at: When it was last logged that its descriptor table is full.
        aborted: SIGABRT has been sent.
        killed_for: Why the dispatcher has killed it first; "" if it has not.
        was_ready: It has been ready.
        is_set_up: It was sent SETUP.
        synced: It has said to this dispatcher what it has: it may get connections.
        interface: How it calls the application, once it is ready.
    """

    to_retire, active, was_ready = _Flag(Mark.TO_RETIRE), _Flag(Mark.ACTIVE), _Flag(Mark.WAS_READY)
    aborted, is_set_up = _Flag(Mark.ABORTED), _Flag(Mark.SET_UP)

    def __init__(
        self,
        row: int,
        generation: int,
        ledger: Ledger,
        words: memoryview,
        buffers: Fd | None,
        *,
        folder: str = "",
        app: str = "",
    ) -> None:
        ledger.clear(row)
        own_end, self._worker_end = socket_pair("seqpacket")
        self.buffers = buffers
        self.buffers_map: mmap.mmap | None = None
        try:
            if buffers is not None:
                self.buffers_map = mapped(buffers)
            self.child = process.start(_MODULE, self._worker_end, folder, f"fdpass: worker {row + 1} of {app}")
        except BaseException:
            own_end.close()
            self._worker_end.close()
            self._close_buffers()
            raise
        words[Row.PID] = self.child.pid
        words[Row.PIDFD] = self.child.pidfd.fileno() + 1
        words[Row.CHANNEL] = own_end.fileno() + 1
        words[Row.WORKER_END] = self._worker_end.fileno() + 1
        words[Row.BUFFERS] = 0 if buffers is None else buffers.fileno() + 1
        words[Row.GENERATION] = generation
        words[Row.FLAGS] = words[Row.DEADLINE] = 0
        words[Row.STARTED] = time.monotonic_ns()
        words[Row.STATE] = Stage.STARTING
        self.synced = True
        self._know(row, ledger, words, own_end)

    @classmethod
    def adopted(
        cls, row: int, ledger: Ledger, words: memoryview, status_of: Callable[[int], int | None]
    ) -> WorkerHandle:
        """Make the record of a worker that a dead dispatcher has started.

        Args:
            row: The worker's row.
            ledger: The workers' ledger.
            words: The worker's words in the estate.
            status_of: Returns the status of an ended process, once the keeper has reaped it.
        """
        worker = cls.__new__(cls)
        worker._worker_end = socket.socket(fileno=words[Row.WORKER_END] - 1)  # noqa: SLF001 - its own
        worker.buffers = Fd(words[Row.BUFFERS] - 1) if words[Row.BUFFERS] else None
        worker.buffers_map = None if worker.buffers is None else mapped(worker.buffers)
        worker.child = process.Child(None, Fd(words[Row.PIDFD] - 1), words[Row.PID], status_of)
        worker.synced = False
        worker._know(row, ledger, words, socket.socket(fileno=words[Row.CHANNEL] - 1))  # noqa: SLF001 - likewise
        return worker

    def _know(self, row: int, ledger: Ledger, words: memoryview, own_end: socket.socket) -> None:
        self.row = row
        self.generation = words[Row.GENERATION]
        self._ledger = ledger
        self.words = words
        self.conversation = Conversation(
            own_end, acknowledged=False, max_message=MAX_MESSAGE, max_fds=0, policy=None
        )
        self.state = _STATES[words[Row.STATE]]
        self.sent = self.accepted = 0
        self.turns: deque[Turn] = deque()
        self.early_ends: list[int] = []
        self.failure: dict[str, Any] = {}
        self.started_at = words[Row.STARTED] / 1e9
        self.state_since = time.monotonic()
        self.full_logged_at = 0.0
        self.killed_for = self.interface = ""

    @property
    def deadline(self) -> float | None:
        """See above."""
        return self.words[Row.DEADLINE] / 1e9 or None

    @deadline.setter
    def deadline(self, time: float | None) -> None:
        self.words[Row.DEADLINE] = 0 if time is None else int(time * 1e9)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.child.pid

    @property
    def untaken(self) -> int:
        """How many connections wait in its channel."""
        return self.sent - self._ledger.taken[self.row]

    def about(self, event: Event, **fields: Any) -> dict[str, Any]:
        """Make the ``extra`` of a line of the log about this worker."""
        return about(event, worker=self.pid, generation=self.generation, **fields)

    def change_state(self, state: State) -> None:
        """Change to another state."""
        assert state in TRANSITIONS[self.state], f"{self.state} to {state}"
        self.state = state
        self.words[Row.STATE] = _STATES.index(state)
        self.state_since = time.monotonic()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> bool:
        """Send a message now, with descriptors lent. False, and nothing is sent, if the channel has no space."""
        return self.conversation.out.send_now(data, fds)

    def send_or_queue(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message now, or as soon as the channel has space.

        The descriptors are lent, and have to stay open until the message has been sent.
        """
        if not self.send(data, fds):
            try:
                self.conversation.queue(self.conversation.out.prepare(data, fds))
                self.conversation.push()
            except FdpassError:
                return

    def take_unread(self) -> list[Message]:
        """Read what the worker has not read of its channel. The caller owns the messages.

        If the dispatcher's descriptor table is full, the kernel closes the last descriptors of a message.
        """
        conversation = Conversation(
            self._worker_end, acknowledged=False, max_message=MAX_MESSAGE, max_fds=MAX_FDS, policy=None
        )
        while conversation.pull(_DONTWAIT) and not conversation.ended:
            pass
        return [_take(conversation) for _ in range(len(conversation.inbox))]

    def set_deadline(self, seconds: float) -> None:
        """Let the worker be killed if it has not ended in so many seconds."""
        self.deadline = time.monotonic() + seconds

    def postpone(self, seconds: float) -> None:
        """Let what is measured from the worker's start, state and deadline come so much later."""
        self.started_at += seconds
        self.state_since += seconds
        if self.deadline is not None:
            self.deadline += seconds

    def abort(self, cause: str) -> None:
        """Send SIGABRT, on which the worker's faulthandler prints its stacks, and the worker dies."""
        self.killed_for = self.killed_for or cause
        self.child.signal(signal.SIGABRT)
        self.aborted = True

    def kill(self, cause: str = "stop") -> None:
        """Send SIGKILL, because of ``cause``. If the process has ended, nothing happens."""
        self.killed_for = self.killed_for or cause
        if self.state is not State.GONE:
            self.child.signal(signal.SIGKILL)

    def close(self) -> int:
        """The process has ended: reap it, close the channel, and return its status."""
        self.words[Row.STATE] = Stage.GONE  # from here on the estate has no such worker
        self.conversation.close()
        self._worker_end.close()
        self._close_buffers()
        return self.child.reap()

    def _close_buffers(self) -> None:
        if self.buffers_map is not None:
            self.buffers_map.close()
        if self.buffers is not None:
            self.buffers.close()


def _take(conversation: Conversation) -> Message:
    try:
        return conversation.take()
    except FdsLost as loss:
        return Message(loss.data, [fd.take() for fd in loss.fds])
