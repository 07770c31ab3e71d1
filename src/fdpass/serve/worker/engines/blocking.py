"""``def handle(sock)``: a blocking socket, and a thread for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading

from fdpass._words import counted
from fdpass.serve.shared import tls
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.reset import has_ended
from fdpass.serve.worker.cuts import log_cut
from fdpass.serve.worker.engines import Job
from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.passed_socket import PassedSocket

log = logging.getLogger("fdpass.serve")
_CLEAN_UP_SECONDS = 1.0  # for handlers whose connections were reset


class BlockingEngine:
    """Calls the handler in a thread per connection. See `fdpass.serve.worker.engines.Engine`."""

    keeps_slots = plain_http = False

    def __init__(self, job: Job) -> None:
        self._handle = job.app
        self._request_count = job.request_count
        self._ssl = tls.context(job.setup.config)
        self._open: set[PassedSocket] = set()

    async def start(self) -> None:
        """Nothing has to be started."""
        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        self._idle.set()

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection, in a thread of its own."""
        self._request_count.begun += 1
        self._open.add(passed)
        self._idle.clear()
        passed.call_on_close(lambda: self._call_ended(passed))
        # A daemon thread: a handler that does not end in time must not keep the worker from exiting.
        thread = threading.Thread(target=self._serve, args=(passed,), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            log.error("a connection was closed: %s", error)  # noqa: TRY400 - no traceback for a full machine
            passed.close()

    def _serve(self, passed: PassedSocket) -> None:
        FORKS.serve(passed)
        sock: socket.socket = passed
        try:
            passed.setblocking(True)
            if self._ssl is not None:
                # TLS runs on a duplicate: wrap_socket detaches its socket, and `passed` has to report the end.
                sock = self._ssl.wrap_socket(socket.socket(fileno=os.dup(passed.fileno())), server_side=True)
            self._call_handler(sock, passed)
        except OSError as error:  # the client went away, or speaks no TLS
            log.debug("a connection failed: %s", error)
        finally:
            sock.close()
            passed.close()
            FORKS.end_child()

    def _call_ended(self, passed: PassedSocket) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the worker exits
            self._loop.call_soon_threadsafe(self._ended, passed)

    def _call_handler(self, sock: socket.socket, passed: PassedSocket) -> None:
        try:
            self._handle(sock)
        except BaseException as error:  # SystemExit too, which would end the thread without a log line
            FORKS.end_child(error)
            client_gone = passed.fileno() < 0 or has_ended(passed.fileno())
            if client_gone and isinstance(error, OSError):
                log.debug("a connection ended early: %s", error)
            else:
                log.exception("the application failed on a connection", extra=about(Event.APPLICATION_FAILED))
                passed.reset()  # a cut answer must not pass for a whole one

    def _ended(self, passed: PassedSocket) -> None:
        self._request_count.over += 1
        self._open.discard(passed)
        if not self._open:
            self._idle.set()

    async def finish(self, seconds: float, *, retiring: bool) -> None:  # noqa: ARG002 - no connection is known to be idle
        """Wait for the threads; after ``seconds`` reset their connections, so that the handlers wake and end."""
        for patience in (seconds, _CLEAN_UP_SECONDS):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), patience)
                return
            if self._open and patience == seconds:
                log_cut(seconds, counted(len(self._open), "connection"))
            for passed in list(self._open):
                passed.reset()
