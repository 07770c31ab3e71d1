"""`serve`: runs a WSGI application in a worker's engine, without a dispatcher, and connects clients to it.

The engine runs with custody and without, on both event loops, and with TLS. pytest runs the coroutine functions in
this folder in the engine's loop. `wsgiref.validate` is around every application but those that break its rules.
"""

import asyncio
import contextlib
import logging
import socket
from types import SimpleNamespace
from wsgiref.validate import validator

import pytest

pytest.importorskip("httptools")
pytest.importorskip("uvicorn")

from fdpass.serve.shared.config import Config
from fdpass.serve.worker.engines import Job
from fdpass.serve.worker.engines.wsgi import WsgiEngine
from fdpass.serve.worker.request_count import RequestCount

from .._coroutines import arguments_of
from ..http._client import Client
from ..http._servers import Fdpass

_HANG = 30  # seconds after which a test fails


class Server(Fdpass):
    """A worker's engine with a WSGI application.

    Attributes:
        left: How many times the engine asked to be replaced.
    """

    def __init__(self, app, settings, **options):
        super().__init__(state={}, **options)
        self._app = app
        self._config = Config(**{"interface": "wsgi", "custody": self._config.custody, **settings})
        self.left = 0
        self.switch.lifespan.append("lifespan.shutdown")  # there is none; see `Fdpass.end`

    def _leave(self):
        self.left += 1

    async def start(self):
        setup = SimpleNamespace(config=self._config, slots=self._slots, pages=self._pages, address=self._address)
        job = Job(self._app, RequestCount(), setup, buffers=self._buffers, leave=self._leave)
        self.engine = WsgiEngine(job)
        await self.engine.start()
        return self

    async def end(self):
        await self.engine.finish(5, retiring=False)


class Serve:
    """``client = await serve(app)`` connects a client to a server with this application.

    Attributes:
        server: The server.
    """

    def __init__(self, kind, caplog):
        self.server = None
        self._kind = kind
        self._log = caplog
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients = []

    async def __call__(self, app, *, validate=True, **settings):
        options = {"address": self._listener.getsockname(), "custody": self._kind == "custody"}
        self.server = Server(validator(app) if validate else app, settings, **options)
        await self.server.start()
        return await self.connect()

    async def connect(self):
        """Connect another client."""
        client = socket.create_connection(self._listener.getsockname())
        sock, _ = self._listener.accept()
        made = Client(client, await self.server.take(sock))
        self._clients.append(made)
        return made

    async def restart(self):
        """End the server, so that the test can start another one."""
        await self._end()

    async def until(self, condition):
        """Wait until this is true; a thread makes it so."""
        while not condition():
            await asyncio.sleep(0.001)

    async def idle(self):
        """Wait until no request is in progress, and each thread waits for the next one."""
        engine = self.server.engine
        await self.until(lambda: not (engine.exchanges or engine._threads._calls))

    @property
    def lines(self):
        """What the server has logged at warning or above since the last look."""
        found = [each for each in self._log.records if each.levelno >= logging.WARNING]
        self._log.clear()
        return [each.getMessage() for each in found]

    @property
    def errors(self):
        """The exceptions that the server has logged since the last look."""
        found = [repr(each.exc_info[1]) for each in self._log.records if each.exc_info]
        self._log.clear()
        return found

    async def close(self):
        """End the server, and check that nothing is left of it."""
        try:
            async with asyncio.timeout(_HANG):
                await self._end()
        finally:
            self._listener.close()

    async def _end(self):
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self.server is not None:
            await self.server.settled.wait()
            await self.idle()
            threads = self.server.engine._threads._threads[:]
            await self.server.close()
            self.server = None
            for thread in threads:
                thread.join(_HANG)
                assert not thread.is_alive()


@pytest.fixture(params=["custody-uvloop", "plain-asyncio"])
def serve(request, caplog, _fdpass_process_wide):
    kind, loop = request.param.split("-")
    made = Serve(kind, caplog)
    made.loop_factory = asyncio.SelectorEventLoop
    if loop == "uvloop":
        made.loop_factory = pytest.importorskip("uvloop").new_event_loop
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a coroutine function as a test."""
    test, given = pyfuncitem.obj, arguments_of(pyfuncitem)
    if given is None:
        return None
    serve = given["serve"]

    async def run():
        async with contextlib.aclosing(_Closing(serve)), asyncio.timeout(_HANG):
            await test(**given)

    with asyncio.Runner(loop_factory=serve.loop_factory) as runner:
        runner.run(run())
    return True


class _Closing:
    def __init__(self, serve):
        self.aclose = serve.close
