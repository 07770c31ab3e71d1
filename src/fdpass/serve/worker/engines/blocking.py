"""``def handle(sock)``: a blocking socket, and a thread for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading

from fdpass.serve.shared import tls
from fdpass.serve.shared.reset import has_ended
from fdpass.serve.worker.engines import Job
from fdpass.serve.worker.passed_socket import PassedSocket

log = logging.getLogger("fdpass.serve")


class Engine:
    """See `fdpass.serve.worker.engines.Engine`."""

    keeps = answers = False

    def __init__(self, job: Job) -> None:
        self._handle = job.app
        self._tally = job.tally
        self._ssl = tls.context(job.setup.config)
        self._open: set[PassedSocket] = set()

    async def start(self) -> None:
        """Nothing has to be started."""
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection, in a thread of its own."""
        self._tally.begun += 1
        self._open.add(passed)
        self._idle.clear()
        # A daemon: what does not end in time must not keep the worker from ending.
        thread = threading.Thread(target=self._serve, args=(passed,), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            log.error("a connection was closed: %s", error)  # noqa: TRY400 - no traceback for a full machine
            passed.close()
            self._over(passed)

    def _serve(self, passed: PassedSocket) -> None:
        sock: socket.socket = passed
        try:
            passed.setblocking(True)
            if self._ssl is not None:
                # A duplicate carries the session; the passed socket tells of its end.
                sock = self._ssl.wrap_socket(socket.socket(fileno=os.dup(passed.fileno())), server_side=True)
            self._run(sock, passed)
        except OSError as error:  # a client that went away, or no TLS
            log.debug("a connection failed: %s", error)
        finally:
            sock.close()
            passed.close()
            with contextlib.suppress(RuntimeError):  # the loop is closed: the worker ends
                self._loop.call_soon_threadsafe(self._over, passed)

    def _run(self, sock: socket.socket, passed: PassedSocket) -> None:
        try:
            self._handle(sock)
        except BaseException as error:  # SystemExit, too: it would end the thread without a word
            gone = passed.fileno() < 0 or has_ended(passed.fileno())
            if gone and isinstance(error, OSError):
                log.debug("a connection ended early: %s", error)
            else:
                log.exception("the application failed on a connection")
                passed.reset()  # a cut answer must not pass for a whole one

    def _over(self, passed: PassedSocket) -> None:
        self._tally.over += 1
        self._open.discard(passed)
        if not self._open:
            self._idle.set()

    async def finish(self, seconds: float, *, streams: bool) -> None:  # noqa: ARG002 - idle is not to be told here
        """Wait for the threads; after ``seconds`` cut their connections, so that they wake and end."""
        for last in (False, True):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), 1.0 if last else seconds)
                return
            for passed in self._open:
                passed.reset()
