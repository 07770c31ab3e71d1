"""``main(listener)``: a server that was not written for fdpass, given a `PassedListener` to accept from.

An async main runs in the worker's loop and is cancelled when the worker retires; it may clean up. A plain one
runs in a thread; its listener says EINVAL then. Many servers take no notice of that and have no end, so when
it was said, and none of its connections is open any more, it is left behind a second later.
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

from fdpass.errors import StartFailed
from fdpass.serve.worker.application import is_async
from fdpass.serve.worker.engines import Job
from fdpass.serve.worker.passed_listener import PassedListener
from fdpass.serve.worker.passed_socket import PassedSocket

log = logging.getLogger("fdpass.serve")
_LAST_SECONDS = 1.0  # for a plain main to clean up, when its last connection has ended and it knows of the end


class Engine:
    """See `fdpass.serve.worker.engines.Engine`."""

    keeps = answers = False

    def __init__(self, job: Job) -> None:
        self._main = job.app
        self._tally = job.tally
        family = socket.AF_INET if job.setup.family < 0 else job.setup.family
        self._listener = PassedListener(family, job.setup.address)
        self._ready = self._ending = False
        self._open = 0

    async def start(self) -> None:
        """Let it run; it is ready when it polls its listener, or accepts."""
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        used = asyncio.Event()
        self._listener.on_use = lambda: self._in_loop(used.set)
        self._task: asyncio.Task[None] | None = None
        if is_async(self._main):
            self._task = self._loop.create_task(self._main(self._listener))
            self._task.add_done_callback(lambda task: self._ended(None if task.cancelled() else task.exception()))
        else:
            threading.Thread(target=self._run, daemon=True).start()
        waiting = self._loop.create_task(used.wait())
        await asyncio.wait({self._over, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self._listener.on_use = lambda: None
        if self._over.done():
            self._over.result()
            raise StartFailed("the application's main(listener) returned before it accepted from its listener")
        self._ready = True

    def _in_loop(self, act: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker ends
            self._loop.call_soon_threadsafe(act, *arguments)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._main(self._listener)
        except BaseException as caught:  # noqa: BLE001 - told below
            error = caught
        self._in_loop(self._ended, error)

    def _ended(self, error: BaseException | None) -> None:
        if self._ready and not self._ending:
            log.error("the application's server ended by itself", exc_info=error)
            os._exit(1)  # nobody accepts here any more: the dispatcher shall start another
        if self._ending and error is not None and getattr(error, "errno", None) != errno.EINVAL:
            log.error("the application's server failed at its end", exc_info=error)
        if self._ready or error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)

    def take(self, passed: PassedSocket) -> None:
        """Let the server accept it."""
        self._tally.begun += 1
        self._open += 1
        self._idle.clear()
        passed.tell_too(lambda: self._in_loop(self._closed))
        self._listener.feed(passed)

    def _closed(self) -> None:
        self._tally.over += 1
        self._open -= 1
        if not self._open:
            self._idle.set()

    async def finish(self, seconds: float, *, streams: bool) -> None:  # noqa: ARG002 - idle is not to be told here
        """Tell the server, and wait for its end."""
        self._ending = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._over}, timeout=seconds)
            return
        told = asyncio.Event()
        self._listener.on_told = lambda: self._in_loop(told.set)
        self._listener.end()
        ready = asyncio.gather(self._idle.wait(), told.wait())
        await asyncio.wait({self._over, ready}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        await asyncio.wait({self._over}, timeout=_LAST_SECONDS)
