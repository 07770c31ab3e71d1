"""`ProxiedConnections`: connections whose PROXY header has not come whole yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fdpass.serve.shared.slots import FLAGS, Flag
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import Reader
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.proxy_header import ProxyError
from fdpass.serve.worker.proxy_reader import HEADER_MAX, read_header
from fdpass.serve.worker.slot_client import store_client

log = logging.getLogger("fdpass.serve")
_STOP_SECONDS = 1.0  # for headers, when the server stops
_REQUEST_SECONDS = 0.05  # for the request behind a header: proxies send it in a packet of its own


class ProxiedConnections:
    """All such connections of a worker, a task for each.

    Args:
        buffers: The worker's receive buffers; None without custody.
        plain_http: See `fdpass.serve.worker.engines.Engine`.
        serve: Called with a connection's socket and slot when its header is read. The socket is given.

    Attributes:
        retiring: A connection in custody whose task is cancelled goes to another worker; else it ends.
    """

    def __init__(
        self,
        buffers: Buffers | None,
        *,
        plain_http: bool,
        serve: Callable[[PassedSocket, memoryview | None], None],
    ) -> None:
        self._buffers = buffers
        self._plain_http = plain_http
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()
        self.retiring = False

    def add(self, passed: PassedSocket, words: memoryview | None) -> None:
        """Read the header of a connection, and serve it then.

        Args:
            passed: The connection. Given.
            words: Its slot; None without custody.
        """
        passed.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._read_header(passed, words))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_header(self, passed: PassedSocket, words: memoryview | None) -> None:
        reader = None
        if words is not None and self._buffers is not None:
            if not self._plain_http:
                words[FLAGS] |= Flag.STREAM
            scratch = memoryview(bytearray(HEADER_MAX))
            reader = Reader(words, self._buffers, scratch, marks=passed.is_unix)
            passed.on_returned = reader.forget
        try:
            length = await read_header(passed, reader)
        except BaseException as error:
            passed.returned = self.retiring and reader is not None and isinstance(error, asyncio.CancelledError)
            passed.close()
            if reader is not None and not passed.returned:
                reader.forget()
            if not isinstance(error, ProxyError | OSError):
                raise
            log.warning("a connection without a PROXY header was closed: %s", error)
            return
        if words is not None and reader is not None:
            store_client(words, passed, length)
            reader.release()
        self._serve(passed, words)

    async def finish(self, seconds: float) -> None:
        """End or give away all such connections, or serve them.

        A worker that retires returns connections in custody to the dispatcher, and waits up to ``seconds`` for the
        headers of others. If the server stops, nobody else can serve a connection that the dispatcher has just
        accepted: its header and its request are awaited for a moment.
        """
        if not self._tasks:
            return
        if not self.retiring:
            seconds = min(seconds, _STOP_SECONDS)
        elif self._buffers is not None:
            self._cancel()
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        if not self.retiring:
            if late:
                self._cancel()
                await asyncio.wait(late)
            await asyncio.sleep(_REQUEST_SECONDS)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
