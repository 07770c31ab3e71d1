"""``async def handle(conn)``: raw handlers whose connections, with a small state, outlive their worker."""

from __future__ import annotations

import asyncio
import logging
import mmap

from fdpass.serve.shared import tls
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.slots import BUFFER_SIZE, slot_of
from fdpass.serve.worker.connection import Connection
from fdpass.serve.worker.custody.buffers import Buffers, new_scratch
from fdpass.serve.worker.engines import Job, end_tasks
from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.link import Link, Moved
from fdpass.serve.worker.passed_socket import PassedSocket

log = logging.getLogger("fdpass.serve")


class ConnectionEngine:
    """Calls the handler with a `Connection`, in a task each.

    See `fdpass.serve.worker.engines.Engine`, and `fdpass.serve.worker.link.LinkEngine`.
    """

    plain_http = False

    def __init__(self, job: Job) -> None:
        self._handle = job.app
        self._request_count = job.request_count
        self._ssl = tls.context(job.setup.config)
        self._slots = job.setup.slots if self._ssl is None else None
        self.keeps_slots = self._slots is not None
        self.buffers = job.buffers or Buffers(mmap.mmap(-1, BUFFER_SIZE * 64))
        self.scratch = new_scratch()
        self._links: dict[asyncio.Task[None], Link] = {}

    async def start(self) -> None:
        """Nothing has to be started."""
        self._loop = asyncio.get_running_loop()

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection, in a task of its own."""
        words = None
        if self._slots is not None:
            words = slot_of(self._slots, passed.slot)
        link = Link(self, passed, words)
        task = self._loop.create_task(self._serve(passed, link))
        self._links[task] = link
        task.add_done_callback(self._links.pop)

    async def _serve(self, passed: PassedSocket, link: Link) -> None:
        self._request_count.begun += 1
        try:
            await self._loop.connect_accepted_socket(lambda: link, passed, ssl=self._ssl)
            link.limit_reading()  # uvloop ignores a pause within `connection_made`
            await self._call_handler(link)
        except OSError as error:  # the client went away, or speaks no TLS
            log.debug("a connection failed: %s", error)
            passed.close()
        finally:
            self._request_count.over += 1

    async def _call_handler(self, link: Link) -> None:
        try:
            await self._handle(Connection(link))
            link.close()
        except Moved:
            link.move()
        except Exception as error:
            FORKS.end_child(error)
            cut_short = link.eof and link.settled and isinstance(error, asyncio.IncompleteReadError)
            if cut_short or (link.lost and isinstance(error, ConnectionError)):
                log.debug("a connection ended early: %s", error)
                link.close()
            else:
                log.exception("the application failed on a connection", extra=about(Event.APPLICATION_FAILED))
                link.reset()
        except BaseException as error:
            FORKS.end_child(error)
            if link.settled:
                link.close()
            else:
                link.reset()
            raise

    async def finish(self, seconds: float, *, retiring: bool) -> None:
        """Let connections move if they can; wait for the handlers of others; after ``seconds`` cancel them."""
        if retiring and self.keeps_slots:
            for link in self._links.values():
                link.move_when_settled()
        await end_tasks(self._links, seconds)
