"""``async def handle(conn)``: raw handlers whose connections, with a small state, outlive their worker."""

from __future__ import annotations

import asyncio
import logging
import mmap

from fdpass.serve.shared import tls
from fdpass.serve.shared.slots import BUFFER_SIZE, slot_of
from fdpass.serve.worker.connection import Connection
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.engines import Job, end_tasks
from fdpass.serve.worker.link import Link, Moved
from fdpass.serve.worker.passed_socket import PassedSocket

log = logging.getLogger("fdpass.serve")


class Engine:
    """See `fdpass.serve.worker.engines.Engine`, and `fdpass.serve.worker.link.Keeper`."""

    answers = False

    def __init__(self, job: Job) -> None:
        self._app = job.app
        self._tally = job.tally
        self._ssl = tls.context(job.setup.config)
        self._slots = job.setup.slots if self._ssl is None else None
        self.keeps = self._slots is not None
        self.buffers = job.buffers or Buffers(mmap.mmap(-1, BUFFER_SIZE * 64))
        self.scratch = memoryview(bytearray(BUFFER_SIZE))
        self._links: dict[asyncio.Task[None], Link] = {}

    async def start(self) -> None:
        """Nothing has to be started."""
        self._loop = asyncio.get_running_loop()

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection."""
        words = None
        if self._slots is not None:
            words = slot_of(self._slots, passed.slot)
        link = Link(self, passed, words)
        task = self._loop.create_task(self._serve(passed, link))
        self._links[task] = link
        task.add_done_callback(self._links.pop)

    async def _serve(self, passed: PassedSocket, link: Link) -> None:
        self._tally.begun += 1
        try:
            await self._loop.connect_accepted_socket(lambda: link, passed, ssl=self._ssl)
            link.pace()  # uvloop does not take it within `connection_made`
            await self._handle(link)
        except OSError as error:  # a client that went away, or no TLS
            log.debug("a connection failed: %s", error)
            passed.close()
        finally:
            self._tally.over += 1

    async def _handle(self, link: Link) -> None:
        try:
            await self._app(Connection(link))
            link.close()
        except Moved:
            link.let_go()
        except Exception as error:
            early = link.ended and link.settled and isinstance(error, asyncio.IncompleteReadError)
            if early or (link.lost and isinstance(error, ConnectionError)):
                log.debug("a connection ended early: %s", error)
                link.close()
            else:
                log.exception("the application failed on a connection")
                link.abort()
        except BaseException:
            if link.settled:
                link.close()
            else:
                link.abort()
            raise

    async def finish(self, seconds: float, *, streams: bool) -> None:
        """Let connections move if they can; wait for the handlers of others; after ``seconds`` cancel them."""
        if streams and self.keeps:
            for link in self._links.values():
                link.leave()
        await end_tasks(self._links, seconds)
