"""`FakeWorkers`: workers as the dispatcher sees them, real but for the process."""

import contextlib
import os
import socket
import time

from fdpass import Fd
from fdpass._ancillary import MAX_FDS
from fdpass._conversation import Conversation
from fdpass._options import MAX_MESSAGE
from fdpass._supervision.loop import Loop
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared.ledger import Ledger, size_for

FIRST_PID = 1000
LATER = 10**18  # ns: a beat so far ahead that its worker is not stuck for as long as any test lasts


class FakeChild:
    """Takes the place of `process.Child`; the test says when it ends.

    Attributes:
        signals: All signals that it was sent, in order.
    """

    def __init__(self, pid):
        self.pid = pid
        self.signals = []
        read_end, write_end = os.pipe()
        self.pidfd = Fd(read_end)
        self._write_end = Fd(write_end)
        self.status = None

    def signal(self, number):
        self.signals.append(number)

    def end(self, status=0):
        """Make its pidfd readable."""
        self.status = status
        self._write_end.close()

    def reap(self):
        self._write_end.close()
        self.pidfd.close()
        return self.status


class FakeWorkers:
    """A loop, a ledger, and workers without processes.

    Attributes:
        children: Every child that was started, in order.
        start_error: What the next starts raise; None lets them succeed.
    """

    def __init__(self):
        self.loop = Loop()
        self.ledger = Ledger(bytearray(size_for(1000)))
        self.children = []
        self.start_error = None
        self._held = contextlib.ExitStack()

    def start(self, module, channel, folder="", name=""):
        """Takes the place of `process.start`."""
        if self.start_error is not None:
            raise self.start_error
        self.children.append(FakeChild(FIRST_PID + len(self.children)))
        return self.children[-1]

    def make(self, row, *, ready=True):
        """A worker that is in no pool; it is closed at the end of the test."""
        worker = WorkerHandle(row, 1, self.ledger, Estate.private(1).row(row), None)
        self._held.callback(worker.close)
        if ready:
            worker.change_state(State.READY)
            self.beat(worker)
        return worker

    def beat(self, worker):
        """Let the worker's event loop run from now on."""
        self.ledger.beat[worker.row] = time.monotonic_ns() + LATER

    def hang(self, worker):
        """Let the worker's event loop have been stuck since the machine started."""
        self.ledger.beat[worker.row] = 0

    def worker_end(self, worker):
        """The worker's own end of its channel."""
        conversation = Conversation(
            socket.socket(fileno=os.dup(worker._worker_end.fileno())),
            acknowledged=False,
            max_message=MAX_MESSAGE,
            max_fds=MAX_FDS,
            policy=None,
        )
        self._held.callback(conversation.close)
        return conversation

    def read(self, worker_end):
        """All messages that wait at a worker's end: kind, content, and how many descriptors (closed now)."""
        while worker_end.pull(socket.MSG_DONTWAIT) and not worker_end.ended:
            pass
        found = []
        while worker_end.inbox:
            with worker_end.take() as message:
                found.append((message.data[:1], message.data[1:], len(message)))
        return found

    def run_loop(self, rounds=4):
        """Let the loop handle all events that are there."""
        for _ in range(rounds):
            self.loop.call_later(0, self.loop.stop)
            self.loop.run()

    def run_until(self, condition):
        """Let the loop run until the condition holds; the test's own time limit is the bound."""
        while not condition():
            self.loop.call_later(0.005, self.loop.stop)
            self.loop.run()

    def close(self):
        self._held.close()
        self.loop.close()
        self.ledger.release()
