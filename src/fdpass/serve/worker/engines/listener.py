"""``main(listener)``: a server that was not written for fdpass, given a `PassedListener` to accept from.

An async main runs in the worker's loop. The worker cancels it to finish, and it may clean up. A plain main runs in
a thread, and its listener answers accept with EINVAL when the worker finishes. Many servers ignore EINVAL and
never return. So the worker does not wait for the thread longer than a second once the listener has reported EINVAL
and the last connection has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
from typing import Any

from fdpass._words import counted
from fdpass.errors import StartFailed
from fdpass.serve.worker.application import is_async
from fdpass.serve.worker.cuts import log_cut
from fdpass.serve.worker.engines import Job
from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.passed_listener import PassedListener
from fdpass.serve.worker.passed_socket import PassedSocket

log = logging.getLogger("fdpass.serve")
_CLEAN_UP_SECONDS = 1.0  # for a plain main, once its listener has reported EINVAL and no connection is open


class ListenerEngine:
    """Runs the application's own server. See `fdpass.serve.worker.engines.Engine`."""

    keeps_slots = plain_http = False

    def __init__(self, job: Job) -> None:
        self._main = job.app
        self._request_count = job.request_count
        family = socket.AF_INET if job.setup.family < 0 else job.setup.family
        self._listener = PassedListener(family, job.setup.address)
        self._ready = self._finishing = False
        self._open = 0  # connections

    async def start(self) -> None:
        """Run the server. It has started when it polls its listener, or accepts."""
        self._loop = asyncio.get_running_loop()
        self._main_over = self._loop.create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        used = asyncio.Event()
        self._listener.on_use = lambda: self._call_in_loop(used.set)
        self._task: asyncio.Task[None] | None = None
        if is_async(self._main):
            self._task = self._loop.create_task(self._main(self._listener))
            self._task.add_done_callback(
                lambda task: self._main_ended(None if task.cancelled() else task.exception())
            )
        else:
            FORKS.keeps_all = True
            threading.Thread(target=self._run_main, daemon=True).start()
        waiting = self._loop.create_task(used.wait())
        await asyncio.wait({self._main_over, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self._listener.on_use = lambda: None
        if self._main_over.done():
            self._main_over.result()
            raise StartFailed("the application's main(listener) returned before it accepted from its listener")
        self._ready = True

    def _call_in_loop(self, function: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker exits
            self._loop.call_soon_threadsafe(function, *arguments)

    def _run_main(self) -> None:
        error: BaseException | None = None
        try:
            self._main(self._listener)
        except BaseException as caught:  # noqa: BLE001 - `_main_ended` logs it, or `start` raises it
            error = caught
        FORKS.end_child(error)
        self._call_in_loop(self._main_ended, error)

    def _main_ended(self, error: BaseException | None) -> None:
        if self._ready and not self._finishing:
            log.error("the application's server ended by itself", exc_info=error)
            os._exit(1)  # no server accepts in this worker any more: the dispatcher starts another worker
        if self._finishing and error is not None and getattr(error, "errno", None) != errno.EINVAL:
            log.error("the application's server failed at its end", exc_info=error)
        if self._ready or error is None:
            self._main_over.set_result(None)
        else:
            self._main_over.set_exception(error)

    def take(self, passed: PassedSocket) -> None:
        """Let the server accept a connection."""
        self._request_count.begun += 1
        self._open += 1
        self._idle.clear()
        passed.call_on_close(lambda: self._call_in_loop(self._connection_ended))
        self._listener.feed(passed)

    def _connection_ended(self) -> None:
        self._request_count.over += 1
        self._open -= 1
        if not self._open:
            self._idle.set()

    async def finish(self, seconds: float, *, retiring: bool) -> None:  # noqa: ARG002 - no connection is known to be idle
        """Tell the server to finish, and wait until it has."""
        self._finishing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._main_over}, timeout=seconds)
            return
        end_reported = asyncio.Event()
        self._listener.on_end_reported = lambda: self._call_in_loop(end_reported.set)
        self._listener.end()
        clean_up = asyncio.gather(self._idle.wait(), end_reported.wait())
        await asyncio.wait({self._main_over, clean_up}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        clean_up.cancel()
        if self._open:
            log_cut(seconds, counted(self._open, "connection"))
        await asyncio.wait({self._main_over}, timeout=_CLEAN_UP_SECONDS)
