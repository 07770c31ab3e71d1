"""How a worker exits: as every Python program, with threads awaited and exit functions run, but in bounded time.

``sys.exit`` waits for the application's threads, runs what `atexit` has (multiprocessing ends its children there),
and flushes files. Each of these can hang, so a thread watches, and ends the process when the time is over.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import sys
import threading
import time
from typing import Any

from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")
_QUIET_SECONDS = 1.0  # after which the log says what the exit waits for

EXIT_SECONDS = 1.0
"""For exit functions, when requests or threads have taken all the time."""


class Leaving:
    """The exit of this process. Make it first of all in the process: exit functions run in reverse order.

    Attributes:
        over: All exit functions have run.
    """

    def __init__(self) -> None:
        self._begun = threading.Event()  # the threads have ended, and the exit functions run
        self._unattended = threading.Event()  # the threads have not ended in time
        self.over = threading.Event()
        atexit.register(self._flush)

    def _flush(self) -> None:
        """The last exit function."""
        for name in ("stdout", "stderr"):
            try:
                getattr(sys, name).flush()
            except (OSError, ValueError, AttributeError):  # a full disk, nobody reads, or no such stream:
                setattr(sys, name, None)  # else the interpreter fails at it again, and exits with 120
        self.over.set()

    def start(self, status: int, seconds: float) -> None:
        """End the process with this status within so many seconds, if the caller's `sys.exit` does not."""
        gc.unfreeze()  # else what the application has left in cycles, such as open files, is not closed
        atexit.register(self._begun.set)  # the first exit function
        # Both threads start now, for while the interpreter ends it starts no thread.
        for target, arguments in ((self._watch, (status, seconds)), (self._run_exit_functions, ())):
            threading.Thread(target=target, args=arguments, name="fdpass-exit", daemon=True).start()

    def _watch(self, status: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        if not self._begun.wait(min(seconds, _QUIET_SECONDS)):
            extra = about(Event.WORKER_LATE)
            log.info("exiting: waiting for %s (at most %.0f s)", _threads(), seconds, extra=extra)
            if not self._begun.wait(max(0.0, deadline - time.monotonic())):
                self._leave_threads(status)
        if not self.over.wait(max(0.0, deadline - time.monotonic())):
            _end(status, "an exit function (atexit) of the application hangs: the worker exits without it")

    def _leave_threads(self, status: int) -> None:
        """Let the exit functions run although the main thread waits for other threads, and exit."""
        extra = about(Event.WORKER_LATE)
        log.warning("the worker exits without waiting any longer for %s", _threads(), extra=extra)
        self._unattended.set()
        hangs = not self.over.wait(EXIT_SECONDS)
        _end(status, "an exit function (atexit) of the application hangs, too" if hangs else "")

    def _run_exit_functions(self) -> None:
        self._unattended.wait()
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()  # noqa: SLF001 - the main thread would never come to them


def _end(status: int, why: str) -> None:
    if why:
        log.warning(why, extra=about(Event.WORKER_LATE))
    _end_children()
    os._exit(status)


def do_nothing(number: int, frame: object) -> None:
    """Handle a signal that is not for the worker. Programs that a worker starts would inherit SIG_IGN instead."""


def _threads() -> str:
    """What keeps the main thread from the exit functions: threads that are no daemons."""
    found = [thread.name for thread in threading.enumerate() if not thread.daemon]
    found = [name for name in found if name != threading.main_thread().name]
    return "threads of the application: " + ", ".join(found) if found else "threads"


def _end_children() -> None:
    """End the children of multiprocessing that are left: nobody has waited for them."""
    multiprocessing: Any = sys.modules.get("multiprocessing")
    if multiprocessing is None:
        return
    with contextlib.suppress(Exception):
        for child in multiprocessing.active_children():
            log.warning("the worker kills process %d of multiprocessing, which has not ended", child.pid)
            child.kill()
