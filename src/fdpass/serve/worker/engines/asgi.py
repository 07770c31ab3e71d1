"""ASGI: HTTP/1.1 by `HttpProtocol`; WebSockets by uvicorn.

`tests/unit/serve/worker/engines/test_uvicorn_contract.py` pins what we rely on in uvicorn.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any
from wsgiref.handlers import format_date_time

from fdpass._sockets import readable
from fdpass.serve.shared import tls
from fdpass.serve.shared.http_settings import header_pairs
from fdpass.serve.shared.proxies import Proxies
from fdpass.serve.worker.access_log import wrap
from fdpass.serve.worker.engines import Job
from fdpass.serve.worker.engines.asgi_custody import AsgiCustody
from fdpass.serve.worker.engines.lifespan import Lifespan
from fdpass.serve.worker.engines.uvicorn_websockets import (
    call_exit_hooks,
    counted,
    uvicorn_config,
    websocket_maker,
)
from fdpass.serve.worker.http.exchange import Exchange
from fdpass.serve.worker.http.forwarded import Forwarding
from fdpass.serve.worker.http.protocol import HttpProtocol
from fdpass.serve.worker.http.request import KnownHeaders
from fdpass.serve.worker.http.response import field
from fdpass.serve.worker.http.wire import Address
from fdpass.serve.worker.idle_timer import IdleTimer
from fdpass.serve.worker.live.farewells import Farewells, end
from fdpass.serve.worker.live.paths import with_slashes
from fdpass.serve.worker.live.websockets import WebSockets
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.transport.http import HttpTransport
from fdpass.serve.worker.transport.http_tls import TlsTransport

log = logging.getLogger("fdpass.serve")
_HEAD_SECONDS = 0.002  # that the head of a response waits for its body
_LOOK_SECONDS = 0.05  # between two looks at whether all is done
_FIRST_SECONDS = 0.5  # for the first request of a client that connected a moment before the end
_LAST_SECONDS = 1.0  # for WebSockets to send their close frames, and cancelled requests to end
_IMPORT_SECONDS = 2.0  # in which uvicorn is imported, on a busy machine
_DISCONNECT_SECONDS = 0.5  # for applications to end by themselves after `http.disconnect`
_NO_LIMIT_SECONDS = 1e7  # asyncio has a limit of its own for a TLS handshake, if it is given none
_WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - nothing is bound here


class AsgiEngine:
    """See `fdpass.serve.worker.engines.Engine`, and `fdpass.serve.worker.http.wire.HttpEngine`."""

    lifespan = ""  # as the settings say

    def __init__(self, job: Job) -> None:
        self._settings = job.setup.config
        self.count = job.request_count
        self.app = job.app
        if self._settings.limit_concurrency:
            from fdpass.serve.worker.limit import limited  # noqa: PLC0415 - few servers need it

            self.app = limited(self.app, self.count, self._settings.limit_concurrency)
        if job.access_log is not None:
            self.app = wrap(self.app, job.access_log)
        proxies = Proxies(self._settings.forwarded_allow_ips)
        self.forwarding = Forwarding(proxies, self._settings.forwarded_headers) if proxies else None
        self.known = KnownHeaders(self.forwarding.read) if self.forwarding else KnownHeaders()
        self.root_path = self._settings.root_path
        self._headers = header_pairs(self._settings.header)
        self.date = self.dateless = b"".join(field(*pair) for pair in self._headers)
        self.connections: set[HttpProtocol] = set()
        self.exchanges: set[Exchange] = set()
        self.count.exchanges = self.exchanges
        self.head_max, self.body_max = self._settings.max_header_size, self._settings.max_body_size
        self._address = _only_address(job)
        self._ssl: ssl.SSLContext | None = tls.context(self._settings)
        self._slots = job.setup.slots if self._ssl is None else None
        self._buffers = job.buffers
        self._excuse = job.excuse
        self._custody: AsgiCustody | None = None
        self.websockets: WebSockets | None = None
        self.resume = with_slashes(self._settings.resume if self._slots is not None else ())
        self.pages = job.setup.pages
        self._heads: list[Exchange] = []  # exchanges whose head waits for the body
        self._taking: set[asyncio.Task[Any]] = set()
        self.keeps_slots = self._slots is not None
        self.plain_http = self._ssl is None
        self.finishing = self.awaits_first = self._exit_hooks_called = False
        self._cutting = False  # the time to finish is over
        self._lifespan = Lifespan(self.app, self.lifespan or self._settings.lifespan)
        self.state = self._lifespan.state
        self._websockets = _ServerState()

    async def start(self) -> None:
        """Run the lifespan's start."""
        settings = self._settings
        self.loop = asyncio.get_running_loop()
        self.poller = Poller(self.loop)
        self.idle = IdleTimer(self.loop, settings.keep_alive, HttpProtocol.expire)
        seconds = settings.header_timeout
        self.head_timer = IdleTimer(self.loop, seconds, HttpProtocol.expire_head) if seconds else None
        await self._lifespan.start()
        if self._slots is not None and self._buffers is not None:
            self._custody = AsgiCustody(self, self._slots, self._buffers, settings.keep_alive)
            self.websockets = self._custody.websockets
        self._create_eager_task = eager(self.loop) or self.loop.create_task
        self._tick()

    def _tick(self) -> None:
        """Renew the date, in the first moments of each second."""
        now = time.time()
        dated = [*self._headers]
        if not self._settings.no_date_header:
            dated.append((b"date", format_date_time(now).encode()))
            self.date = self.dateless + field(*dated[-1])
        self._websockets.default_headers = dated
        self._ticking = self.loop.call_later(1.001 - now % 1, self._tick)

    # Connections

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection."""
        if self._ssl is not None:
            task = self.loop.create_task(self._connect(passed))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)
        elif self._custody is not None:
            self._custody.take(passed)
        else:
            HttpTransport(self.poller, passed).start(HttpProtocol(self, passed))

    async def _connect(self, passed: PassedSocket) -> None:
        protocol = _TlsProtocol(self, passed)
        try:
            await self.loop.connect_accepted_socket(
                lambda: protocol,
                passed,
                ssl=self._ssl,
                ssl_handshake_timeout=self._settings.header_timeout or _NO_LIMIT_SECONDS,
            )
            protocol.settled()
        except OSError as error:  # a client that went away, or no TLS
            log.debug("a connection failed: %s", error)
            passed.close()
        except BaseException:
            passed.close()
            raise

    @cached_property
    def _config(self) -> Any:
        seconds = self._settings.graceful_timeout
        return uvicorn_config(counted(self.app, self.count, seconds, lambda: self._cutting), self._settings)

    @cached_property
    def websocket(self) -> Callable[[PassedSocket], Any] | None:
        """See `HttpEngine`."""
        self._excuse(_IMPORT_SECONDS)
        return websocket_maker(self._config, self._websockets, self.state, self.forwarding)

    def server_of(self, passed: PassedSocket) -> Address | None:
        """See `HttpEngine`."""
        if self._address is not None:
            return self._address
        try:
            name = passed.getsockname()
        except OSError:
            return None
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else (readable(name), None)

    # Requests

    def start_exchange(self, exchange: Exchange) -> None:
        """See `HttpEngine`."""
        self.exchanges.add(exchange)
        create = self._create_eager_task
        exchange.task = create(exchange.run(self.app))  # it may be over already

    def start_exchange_soon(self, exchange: Exchange) -> None:
        """See `HttpEngine`."""
        self.exchanges.add(exchange)
        exchange.task = self.loop.create_task(exchange.run(self.app))

    def flush_soon(self, exchange: Exchange) -> None:
        """See `HttpEngine`. One timer for all; and none where bodies follow at once, as most do."""
        if not self._heads:
            self.loop.call_soon(self._wait_for_bodies)
        self._heads.append(exchange)

    def _wait_for_bodies(self) -> None:
        self._heads = [exchange for exchange in self._heads if exchange.head]
        if self._heads:
            self.loop.call_later(_HEAD_SECONDS, self._flush_heads)

    def _flush_heads(self) -> None:
        heads, self._heads = self._heads, []
        for exchange in heads:
            if exchange.head:
                exchange.flush()

    # The end

    async def finish(self, seconds: float, *, retiring: bool) -> None:
        """See `fdpass.serve.worker.engines.Engine.finish`."""
        began = self.loop.time()
        self.finishing = self.awaits_first = True
        self.loop.call_later(min(seconds, _FIRST_SECONDS), self._await_no_first)
        if not (retiring and self.resume):  # else the hooks would end event streams that can move
            self._call_exit_hooks()
        if self._custody is not None:
            self._custody.finish(retiring=retiring)
        left = seconds
        if retiring:
            farewells = Farewells(self._websockets.connections, self.connections, self.count, began, seconds)
            await self._wait_until_over(seconds, HttpProtocol.retire, farewells)
            left = _LAST_SECONDS
            for connection in list(self.connections):
                connection.move()
            if self.websockets is not None:
                self.websockets.move_late()
        self._call_exit_hooks()
        for websocket in list(self._websockets.connections):
            end(websocket, self.count)
        await self._wait_until_over(left, HttpProtocol.move if retiring else HttpProtocol.shutdown)
        await self._cut(seconds)
        self._ticking.cancel()
        await self._lifespan.stop(max(began + seconds - self.loop.time(), _LAST_SECONDS))

    def _await_no_first(self) -> None:
        self.awaits_first = False

    def _call_exit_hooks(self) -> None:
        if not self._exit_hooks_called:
            self._exit_hooks_called = True
            call_exit_hooks(lambda: self._config)

    async def _wait_until_over(
        self, seconds: float, let_go: Callable[[HttpProtocol], None], farewells: Farewells | None = None
    ) -> None:
        """Let connections go as they become idle, for so long."""
        deadline = self.loop.time() + seconds
        while True:
            if farewells is not None:
                farewells.look(self.loop.time())
            for connection in list(self.connections):
                let_go(connection)
            # A request's task may go on behind its response, for which its connection does not wait.
            busy = self.connections or self.exchanges or self._taking or self.poller.lingering
            if (
                not (busy or self._websockets.connections or self._websockets.tasks)
                or self.loop.time() >= deadline
            ):
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _cut(self, seconds: float) -> None:
        """After so many seconds, end what is left: applications get `http.disconnect`, then are cancelled."""
        self._cutting = True
        ends = [exchange.task for exchange in self.exchanges if exchange.task is not None]
        for exchange in list(self.exchanges):
            if not exchange.given_up:  # as `HttpProtocol.move` does
                exchange.give_up(seconds)
        if ends:
            await asyncio.wait(ends, timeout=_DISCONNECT_SECONDS)
        tasks = [task for task in (*ends, *self._websockets.tasks, *self._taking) if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_LAST_SECONDS)
        for connection in list(self.connections):
            connection.stop()  # TLS sends its close_notify
        await asyncio.sleep(0)
        for connection in list(self.connections):
            connection.wire.abort()
        await asyncio.sleep(0)
        for lingering in list(self.poller.lingering):
            lingering.close()


class _ServerState:
    """What uvicorn's WebSocket classes take for a `uvicorn.server.ServerState`, without an import of uvicorn.

    Attributes:
        connections: The protocols that are connected.
        tasks: Of the application's calls.
        default_headers: Of each answer to a handshake.
    """

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.default_headers: list[tuple[bytes, bytes]] = []


class _TlsProtocol(HttpProtocol):
    """The protocol of a connection whose transport is the loop's."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(TlsTransport(transport, self._passed))

    def eof_received(self) -> None:
        self.stop()  # asyncio's TLS has no half-closed connections


def eager(loop: asyncio.AbstractEventLoop) -> Callable[[Any], asyncio.Task[None]] | None:
    """What makes tasks that begin at once, and often end before the loop sees them; None before Python 3.12."""
    if sys.version_info < (3, 12) or loop.get_task_factory() is not None:
        return None
    return partial(asyncio.Task, loop=loop, eager_start=True)


def _only_address(job: Job) -> Address | None:
    """The server's address, if it has only one; else the kernel has to be asked for each connection."""
    address = job.setup.address
    if len(job.setup.config.bind) == 1 and isinstance(address, tuple) and address[0] not in _WILDCARDS:
        return str(address[0]), int(address[1])
    return None
