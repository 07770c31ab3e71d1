"""``async def handle(reader, writer)``: asyncio streams, a task for each connection."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fdpass.serve.shared import tls
from fdpass.serve.shared.events import Event, about
from fdpass.serve.worker.engines import Job, end_tasks
from fdpass.serve.worker.forks import FORKS
from fdpass.serve.worker.passed_socket import PassedSocket, unmapped

log = logging.getLogger("fdpass.serve")


class _Writer(asyncio.StreamWriter):
    """A StreamWriter whose ``peername`` is the client that the PROXY header named; see also `unmapped`."""

    client: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername" and self.client is not None:
            return self.client
        found = super().get_extra_info(name, default)
        return unmapped(found) if name in {"peername", "sockname"} else found


class StreamEngine:
    """Calls the handler in a task per connection. See `fdpass.serve.worker.engines.Engine`."""

    keeps_slots = plain_http = False

    def __init__(self, job: Job) -> None:
        self._handle = job.app
        self._request_count = job.request_count
        self._ssl = tls.context(job.setup.config)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing has to be started."""
        self._loop = asyncio.get_running_loop()

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection, in a task of its own."""
        task = self._loop.create_task(self._serve(passed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, passed: PassedSocket) -> None:
        self._request_count.begun += 1
        try:
            reader, writer = await self._open_streams(passed)
            await self._call_handler(reader, writer, passed)
        except OSError as error:  # the client went away, or speaks no TLS
            log.debug("a connection failed: %s", error)
            passed.close()
        except BaseException:
            passed.close()
            raise
        finally:
            self._request_count.over += 1

    async def _call_handler(self, reader: asyncio.StreamReader, writer: _Writer, passed: PassedSocket) -> None:
        try:
            await self._handle(reader, writer)
        except Exception as error:
            FORKS.end_child(error)
            cut_short = reader.at_eof() and isinstance(error, asyncio.IncompleteReadError)
            if cut_short or (writer.transport.is_closing() and isinstance(error, ConnectionError)):
                log.debug("a connection ended early: %s", error)
            else:
                log.exception("the application failed on a connection", extra=about(Event.APPLICATION_FAILED))
                self._reset(writer, passed)
        except BaseException as error:  # cancelled: the time to finish has passed
            FORKS.end_child(error)
            self._reset(writer, passed)
            raise
        finally:
            writer.close()

    def _reset(self, writer: _Writer, passed: PassedSocket) -> None:
        """End the connection so that a cut answer cannot pass for a whole one."""
        passed.reset()
        writer.transport.abort()

    async def _open_streams(self, passed: PassedSocket) -> tuple[asyncio.StreamReader, _Writer]:
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, passed, ssl=self._ssl)
        writer = _Writer(transport, protocol, reader, self._loop)
        writer.client = passed.client
        return reader, writer

    async def finish(self, seconds: float, *, retiring: bool) -> None:  # noqa: ARG002 - no connection is known to be idle
        """Wait for the handlers; after ``seconds`` cancel them."""
        await end_tasks(self._tasks, seconds)
