"""`Threads`: the threads in which a WSGI application runs; and what the log says of those that hang."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import fdpass
from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.wsgi.call import Call
from fdpass.serve.worker.wsgi.environ import Environs

log = logging.getLogger("fdpass.serve")
_LOOKS = 4  # in the time after which a thread hangs
_LOOK_SECONDS_MAX = 1.0
_OURS = (os.path.join(os.path.dirname(fdpass.__file__), ""), threading.__file__)


class Threads:
    """At most ``count`` threads, which are started when they are needed.

    They are daemons: one that hangs does not keep the worker from exiting.

    Args:
        app: The application.
        environs: Makes its environs.
        count: See above.
        timeout: A request hangs that has neither received nor sent anything for so many seconds; 0 = never.
        leave: Called once, when at least half of the threads hang.
    """

    def __init__(
        self, app: Any, environs: Environs, *, count: int, timeout: float, leave: Callable[[], None]
    ) -> None:
        self._app = app
        self._environs = environs
        self._count = count
        self._timeout = timeout
        self._leave = leave
        self._jobs: queue.SimpleQueue[tuple[Call, contextvars.Context] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._calls: set[Call] = set()  # that have not ended
        self._said: dict[Call, float] = {}  # the calls that hang, by `Call.since`
        self._leaving = False
        self._watching: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin. In the event loop."""
        self._loop = asyncio.get_running_loop()
        if self._timeout:
            self._watch()

    def stop(self) -> None:
        """Let threads without a request end; the others end after their request."""
        if self._watching is not None:
            self._watching.cancel()
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def submit(self, call: Call) -> None:
        """Run a call in a thread, once one is free, in a copy of the caller's context.

        Raises:
            RuntimeError: The first thread could not be started.
        """
        if len(self._calls) >= len(self._threads) < self._count:
            self._add_thread()
        self._calls.add(call)
        self._jobs.put((call, contextvars.copy_context()))

    def _add_thread(self) -> None:
        name = f"wsgi-{len(self._threads) + 1}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more processes (EAGAIN)
            if not self._threads:
                raise
            log.error("no thread could be started, so that requests wait for others: %s", error)  # noqa: TRY400
        else:
            self._threads.append(thread)

    def notify(self, call: Call) -> None:
        """A call has changed something; from its thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker exits
            self._loop.call_soon_threadsafe(self._on_change, call)

    def _on_change(self, call: Call) -> None:
        if call.over:
            self._calls.discard(call)
            self._said.pop(call, None)
        call.wake()

    def _work(self) -> None:
        """The life of a thread."""
        event = threading.Event()
        event.set()
        while (job := self._jobs.get()) is not None:
            call, context = job
            context.run(call.run, self._app, self._environs, event)
            FORKS.end_child()
            del job, call, context  # what they hold may be large

    # Threads that hang

    def _watch(self) -> None:
        self._look(time.monotonic())
        seconds = min(self._timeout / _LOOKS, _LOOK_SECONDS_MAX)
        self._watching = self._loop.call_later(seconds, self._watch)

    def _look(self, now: float) -> None:
        hung = 0
        for call in self._calls:
            since = call.since
            if not since or now - since <= self._timeout:
                continue
            hung += 1
            if self._said.get(call) != since:
                self._said[call] = since
                log.error(
                    "%s has kept its thread for %.1f s (--request-timeout); the thread is at:\n%s",
                    call.request,
                    now - since,
                    _stack(call.thread),
                )
        if 2 * hung >= self._count and not self._leaving:
            self._leaving = True
            log.error("%d of %d threads hang (--request-timeout): the worker is replaced", hung, self._count)
            self._leave()


def _stack(thread: int) -> str:
    """Where a thread is, from the application's first frame on."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - CPython's documented way
    if frame is None:
        return "(it has ended)"
    found = traceback.extract_stack(frame)
    while len(found) > 1 and found[0].filename.startswith(_OURS):
        del found[0]
    return "".join(traceback.format_list(found)).rstrip()
