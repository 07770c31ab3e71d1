"""In a worker: counts executed bytecodes of the server's own code, and kills the worker at a certain one.

A test orders a death by a file ``kill.EVENT`` in the server's folder: ``opcodes N`` or ``ms N``. The worker in
which that event happens next takes the order by renaming it to ``killing.PID``. Whoever removes that file calls
the death off. A worker that dies says in the file ``deaths`` where, and lets a file ``next`` be the next order.
"""

import asyncio
import contextlib
import os
import signal
import sys

OURS = ("/fdpass/serve/", "/uvicorn/")


class Countdown:
    """Counts down with each bytecode, in frames that begin or go on from now on."""

    def __init__(self, left):
        self.left = left

    def start(self):
        sys._getframe().f_trace_opcodes = True  # Python 3.12 counts only if it knows of such a frame by now
        sys.settrace(self.entered)

    def entered(self, frame, what, argument):
        name = frame.f_code.co_filename
        if not any(part in name for part in OURS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.stepped

    def stepped(self, frame, what, argument):
        if what == "opcode":
            self.left -= 1
            if self.left <= 0:
                sys.settrace(None)
                code = frame.f_code
                file = code.co_filename.rpartition("/")[2]
                die(f"{file}:{frame.f_lineno} {code.co_qualname}+{frame.f_lasti}")
        return self.stepped


def happens(event):
    """An event from which a death may be counted."""
    mine = f"killing.{os.getpid()}"
    try:
        os.rename(f"kill.{event}", mine)
        with open(mine) as file:
            unit, count = file.read().split()
    except FileNotFoundError:
        return
    if unit == "ms":
        asyncio.get_running_loop().call_later(int(count) / 1000, die, f"{count} ms after a {event}")
    else:
        Countdown(int(count)).start()


def die(where):
    try:
        os.rename(f"killing.{os.getpid()}", "killed")
    except FileNotFoundError:  # it was called off, or this is a forked child
        return
    with open("deaths", "ab", 0) as file:
        file.write(f"{os.getpid()} {where}\n".encode())
    with contextlib.suppress(FileNotFoundError):
        os.rename("next", "kill.handoff")
    os.kill(os.getpid(), signal.SIGKILL)


def watch_handoffs(worker_class):
    real = worker_class._serve

    def _serve(worker, slot, number, read):
        happens("handoff")
        real(worker, slot, number, read)

    worker_class._serve = _serve


if "fdpass.serve.worker" in sys.orig_argv:
    from fdpass.serve.worker.worker import Worker

    watch_handoffs(Worker)
