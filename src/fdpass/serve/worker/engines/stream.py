"""``async def handle(reader, writer)``: asyncio streams, a task for each connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fdpass.serve.shared import tls
from fdpass.serve.worker.engines import Job, end_tasks
from fdpass.serve.worker.passed_socket import PassedSocket

log = logging.getLogger("fdpass.serve")


class _Writer(asyncio.StreamWriter):
    """Says who the client is as its PROXY header did."""

    client: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername" and self.client is not None:
            return self.client
        return super().get_extra_info(name, default)


class Engine:
    """See `fdpass.serve.worker.engines.Engine`."""

    keeps = answers = False

    def __init__(self, job: Job) -> None:
        self._handle = job.app
        self._tally = job.tally
        self._ssl = tls.context(job.setup.config)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing has to be started."""
        self._loop = asyncio.get_running_loop()

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection."""
        task = self._loop.create_task(self._serve(passed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, passed: PassedSocket) -> None:
        self._tally.begun += 1
        try:
            reader, writer = await self._opened(passed)
            await self._run(reader, writer, passed)
        except OSError as error:  # a client that went away, or no TLS
            log.debug("a connection failed: %s", error)
            passed.close()
        except BaseException:
            passed.close()
            raise
        finally:
            self._tally.over += 1

    async def _run(self, reader: asyncio.StreamReader, writer: _Writer, passed: PassedSocket) -> None:
        try:
            await self._handle(reader, writer)
        except Exception as error:
            early = reader.at_eof() and isinstance(error, asyncio.IncompleteReadError)
            if early or (writer.transport.is_closing() and isinstance(error, ConnectionError)):
                log.debug("a connection ended early: %s", error)
            else:
                log.exception("the application failed on a connection")
                self._cut(writer, passed)
        except BaseException:  # cancelled, for its time is over
            self._cut(writer, passed)
            raise
        finally:
            writer.close()

    def _cut(self, writer: _Writer, passed: PassedSocket) -> None:
        """End it so that a cut answer cannot pass for a whole one."""
        passed.reset()
        writer.transport.abort()

    async def _opened(self, passed: PassedSocket) -> tuple[asyncio.StreamReader, _Writer]:
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, passed, ssl=self._ssl)
        writer = _Writer(transport, protocol, reader, self._loop)
        writer.client = passed.client
        return reader, writer

    async def finish(self, seconds: float, *, streams: bool) -> None:  # noqa: ARG002 - idle is not to be told here
        """Wait for the handlers; after ``seconds`` cancel them."""
        await end_tasks(self._tasks, seconds)
