"""ASGI and WSGI: uvicorn's server and protocol classes, fed with passed connections instead of a listener's.

``uvicorn.Server`` runs the lifespan and its ticks, with no socket to listen on. Each connection is put on the
loop with one of its protocol objects. What we rely on in uvicorn is pinned by
`tests/unit/serve/worker/engines/test_uvicorn_contract.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import uvicorn

from fdpass.serve.shared import tls
from fdpass.serve.shared.slots import BUFFER_SIZE, WORDS, WRITTEN, slot_of
from fdpass.serve.worker.access_log import wrap
from fdpass.serve.worker.application import StartupFailed
from fdpass.serve.worker.engines import Job
from fdpass.serve.worker.engines.wait_for_unread import patient
from fdpass.serve.worker.parking import Parking
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.request_count import RequestCount
from fdpass.serve.worker.timeouts import Timeout, Timeouts
from fdpass.serve.worker.transport.base import Transport
from fdpass.serve.worker.transport.coalescing import Coalescing
from fdpass.serve.worker.transport.http_custody import HttpCustody

log = logging.getLogger("fdpass.serve")
_HEAD_SECONDS = 0.002  # that the head of a response waits for its body
_LOOK_SECONDS = 0.05
_LAST_SECONDS = 1.0  # for WebSockets to send their close frames, and cancelled requests to end


class _Server(uvicorn.Server):
    """uvicorn's, but for signals, which are the dispatcher's, and for telling when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:  # else the lifespan failed: newer versions exit, older ones return
            self.up.set()


class _Loop:
    """The running loop, as uvicorn's protocols see it: its timers of keep-alive are `Timeouts`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeouts: Timeouts) -> None:
        self._loop = loop
        self.timeouts = timeouts
        self.create_task = loop.create_task

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timeout | asyncio.TimerHandle:
        if seconds == self.timeouts.seconds:
            return self.timeouts.start(call)
        return self._loop.call_later(seconds, call)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Engine:
    """See `fdpass.serve.worker.engines.Engine`; for connections in custody, `HttpEngine`."""

    lifespan = ""  # as the settings say

    def __init__(self, job: Job) -> None:
        self.tally = job.request_count
        self.app = job.app
        if job.access_log is not None:
            self.app = wrap(self.app, job.access_log)
        self._settings = job.setup.config
        self._ssl: ssl.SSLContext | None = tls.context(self._settings)
        self._slots = job.setup.slots if self._ssl is None else None
        self._kept: set[HttpCustody] = set()
        self._heads: list[Coalescing] = []  # those whose head waits for its body
        self._taking: set[asyncio.Task[Any]] = set()
        self.keeps_slots = self._slots is not None
        self.plain_http = self._ssl is None
        if job.buffers is not None:
            self.buffers = job.buffers
            self.scratch = memoryview(bytearray(BUFFER_SIZE))

    async def start(self) -> None:
        """Run the lifespan's start."""
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        self.poller = Poller(self._loop)
        self._inner_loop = _Loop(self._loop, Timeouts(self._loop, settings.keep_alive))
        self._parking = Parking(self.poller, settings.keep_alive, self._serve_kept)
        self._config = uvicorn.Config(
            _counted(self.app, self.tally),
            interface="asgi3",
            lifespan=self.lifespan or settings.lifespan,  # type: ignore[arg-type]
            timeout_keep_alive=settings.keep_alive,  # type: ignore[arg-type]
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._server = _Server(self._config)
        with _errors() as said:
            self._serving = self._loop.create_task(self._serve())
            up = self._loop.create_task(self._server.up.wait())
            await asyncio.wait({self._serving, up}, return_when=asyncio.FIRST_COMPLETED)
        if not up.done():
            up.cancel()
            raise StartupFailed("the application's lifespan startup failed", "\n".join(said))
        self._http: Any = patient(self._config.http_protocol_class)
        if settings.proxy_protocol:
            self._http = _told_by_proxy(self._http)

    async def _serve(self) -> None:
        with contextlib.suppress(SystemExit):  # how uvicorn reports a failed start
            await self._server.serve(sockets=[])

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection."""
        if self._ssl is not None:
            task = self._loop.create_task(self._connect(passed))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)
        elif self._slots is None:
            Transport(self.poller, passed).start(self._protocol(passed))
        elif self._slots[passed.slot * WORDS + WRITTEN] and not passed.read:
            self._parking.add(passed)  # it was idle elsewhere
        else:
            self._serve_kept(passed)

    def _serve_kept(self, passed: PassedSocket) -> None:
        assert self._slots is not None
        kept = HttpCustody(self, passed, slot_of(self._slots, passed.slot))
        self._kept.add(kept)
        kept.start(self._protocol(passed))

    async def _connect(self, passed: PassedSocket) -> None:
        protocol = self._protocol(passed)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, passed, ssl=self._ssl)
        except OSError as error:  # a client that went away, or no TLS
            log.debug("a connection failed: %s", error)
            passed.close()
        except BaseException:
            passed.close()
            raise
        else:
            if self._server.should_exit:  # uvicorn has told those that were there before
                self._shut_down()

    def _shut_down(self) -> None:
        """Close connections that are idle now, others when their response is complete."""
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, self._http):
                connection.shutdown()

    def _protocol(self, passed: PassedSocket) -> Any:
        """Uvicorn's protocol for a connection."""
        more = {"passed": passed} if passed.client is not None else {}
        return self._http(
            config=self._config,
            server_state=self._server.server_state,
            app_state=self._server.lifespan.state,
            _loop=self._inner_loop,
            **more,
        )

    def flush_soon(self, connection: Coalescing) -> None:
        """See `HttpEngine`. One timer for all: one for each would cost too much."""
        if not self._heads:
            self._loop.call_later(_HEAD_SECONDS, self._flush_heads)
        self._heads.append(connection)

    def _flush_heads(self) -> None:
        heads, self._heads = self._heads, []
        for connection in heads:
            connection.flush()

    def ended(self, connection: Any) -> None:
        """See `HttpEngine`."""
        self._kept.discard(connection)

    async def finish(self, seconds: float, *, retiring: bool) -> None:
        """See `fdpass.serve.worker.engines.Engine.finish`."""
        state = self._server.server_state
        if retiring:
            deadline = self._loop.time() + seconds
            self._parking.give_back()
            for kept in list(self._kept):
                kept.leave()
            # A request's task may go on behind its response, for which its connection does not wait.
            while (state.connections or self._kept or state.tasks) and self._loop.time() < deadline:
                if not self.keeps_slots:
                    self._shut_down()
                await asyncio.sleep(_LOOK_SECONDS)
            seconds = _LAST_SECONDS
        self._parking.end()
        self._config.timeout_graceful_shutdown = seconds  # type: ignore[assignment]
        self._server.should_exit = True
        await asyncio.wait({self._serving})


class Wsgi(Engine):
    """A WSGI application: a2wsgi runs it in threads."""

    lifespan = "off"

    def __init__(self, job: Job) -> None:
        from a2wsgi import WSGIMiddleware  # noqa: PLC0415 - only where it is wanted

        super().__init__(replace(job, app=WSGIMiddleware(job.app)))


def _counted(app: Any, tally: RequestCount) -> Any:
    async def counted(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        tally.begun += 1
        try:
            return await app(scope, receive, send)  # anything but None is a mistake that uvicorn reports
        finally:
            tally.over += 1

    return counted


def _told_by_proxy(http: Any) -> Any:
    """The protocol class, with the client's address and scheme as the PROXY header gave them."""

    class ToldByProxy(http):  # type: ignore[misc]
        def __init__(self, *arguments: Any, passed: PassedSocket | None = None, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._passed = passed

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if self._passed is not None:
                if isinstance(self._passed.client, tuple):
                    self.client = self._passed.client
                if self._passed.tls_by_proxy:
                    self.scheme = "https"

    return ToldByProxy


@contextlib.contextmanager
def _errors() -> Iterator[list[str]]:
    """What uvicorn logs as an error meanwhile, the application's traceback with it, in place of the log."""
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(self.format(record))

    logger = logging.getLogger("uvicorn.error")
    handler = Collect(logging.ERROR)
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
