"""The servers under test: `Fdpass` runs a worker's engine; `Uvicorn`, the reference, runs uvicorn's own protocol.

This file uses only what every engine has (start, take, finish), and does not know how an engine speaks HTTP.
"""

import asyncio
import contextlib
import os
import socket
from types import SimpleNamespace

import uvicorn

from fdpass._memory import common, mapped
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.slots import BUFFER_SIZE
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.engines import Job, asgi
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.request_count import RequestCount

_MOST = 16  # connections at a time; also the number of buffers
KEEP_ALIVE = 5.0


class Switch:
    """The application that a server is made with. It calls the application of the present test.

    Attributes:
        app: The application of the present test.
        state: What the lifespan puts into its state.
        lifespan: The types of the lifespan's messages.
        calls: The tasks of the calls in progress.
        called: The test's application has been called.
        quiet: No call is in progress.
    """

    def __init__(self, state):
        self.app = None
        self.state = state
        self.lifespan = []
        self.calls = set()
        self.called = asyncio.Event()
        self.quiet = asyncio.Event()
        self.quiet.set()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return None
        task = asyncio.current_task()
        self.calls.add(task)
        self.quiet.clear()
        self.called.set()
        try:
            return await self.app(scope, receive, send)
        finally:
            self.calls.discard(task)
            if not self.calls:
                self.quiet.set()

    async def _live(self, scope, receive, send):
        scope["state"].update(self.state)
        while "lifespan.shutdown" not in self.lifespan:
            message = await receive()
            self.lifespan.append(message["type"])
            await send({"type": message["type"] + ".complete"})


class Server:
    """The part that both servers have in common.

    Attributes:
        switch: Its application.
        open: The server's sockets of all open connections.
        settled: No connection is open.
        told: The server retires, and has told all its connections.
    """

    def __init__(self, state):
        self.switch = Switch(state)
        self.open = set()
        self.settled = asyncio.Event()
        self.settled.set()
        self.told = asyncio.Event()

    def _opened(self, served):
        self.open.add(served)
        self.settled.clear()

    def _closed(self, served):
        self.open.discard(served)
        if not self.open:
            self.settled.set()


class Fdpass(Server):
    """The engine of a worker, and the dispatcher's duplicates of its connections.

    Attributes:
        returned: The sockets of the connections that the engine gave back.
    """

    def __init__(self, *, address, custody, files=None, state, keep_alive=KEEP_ALIVE, **settings):
        super().__init__(state)
        self.engine = self._custody = self._slots = self._pages = self._buffers = None
        self._free = list(range(_MOST))
        self._address = address
        self.returned = []
        tls = {"tls_cert": files[0], "tls_key": files[1]} if files else {}
        settings |= {"keep_alive": keep_alive, "custody": "on" if custody else "off"}
        self._config = Config(lifespan="on", **settings, **tls)
        if custody:
            loop = asyncio.get_running_loop()
            timers = {"call_later": loop.call_later, "watch": loop.add_reader, "unwatch": loop.remove_reader}
            self._custody = Custody(SimpleNamespace(**timers), Estate.private(_MOST), "safe")
            self._slots = memoryview(mapped(self._custody.memory)).cast("q")
            self._pages = mapped(self._custody.pages)
            with common(_MOST * BUFFER_SIZE, name="fdpass-test") as memory:
                self._buffers = Buffers(mapped(memory))

    async def start(self):
        """Start the server, and wait until the application has started."""
        setup = SimpleNamespace(
            config=self._config,
            slots=self._slots,
            pages=self._pages,
            family=socket.AF_INET,
            proto=socket.IPPROTO_TCP,
            address=self._address,
        )
        self.engine = asgi.AsgiEngine(Job(self.switch, RequestCount(), setup, buffers=self._buffers))
        await self.engine.start()
        return self

    async def take(self, sock):
        """Serve a connection."""
        slot = self._free.pop()
        if self._custody is not None:
            self._custody.keep(slot, sock.dup().detach())
        self._hand(sock.detach(), slot)

    def _hand(self, number, slot, read=b""):
        passed = PassedSocket(number, slot, self._on_close)
        passed.read = read
        self._opened(passed)
        self.engine.take(passed)

    def _on_close(self, passed):
        self._closed(passed)
        if passed.returned:
            self.returned.append(passed)
            passed.on_returned()
        else:
            if self._custody is not None:
                self._custody.end([passed.slot])
            self._free.append(passed.slot)

    def take_again(self, passed):
        """Serve a connection that an engine gave back."""
        self._custody.take_back(passed.slot, passed.read)
        self._hand(os.dup(self._custody.fd(passed.slot)), passed.slot, passed.read)

    async def restart(self):
        """Start another engine, with the same slots: it is the next worker."""
        self.engine.poller.close()
        self.switch.lifespan.clear()
        await self.start()

    async def retire(self, seconds=30.0):
        """Give back idle connections, finish the requests in progress, and end."""
        asyncio.get_running_loop().call_soon(self.told.set)
        await self.engine.finish(seconds, retiring=True)

    async def end(self):
        """End without waiting for requests in progress."""
        if "lifespan.shutdown" not in self.switch.lifespan:
            await self.engine.finish(0, retiring=False)

    async def close(self):
        """End, and close all descriptors."""
        await self.end()
        self.engine.poller.close()
        if self._custody is not None:
            self._custody.end([passed.slot for passed in self.returned])
            for view in (*self._buffers.views, self._slots):
                view.release()
            self._buffers.memory.close()
            self._pages.close()
            self._custody.close()


class _Served(socket.socket):
    """The server's socket of a connection; it reports when it is closed."""

    on_close = None

    def _real_close(self, *arguments):
        super()._real_close(*arguments)
        if self.on_close is not None:
            self.on_close(self)


class _UvicornServer(uvicorn.Server):
    """uvicorn's server without its signal handlers; it reports when it has started and when it retires."""

    def __init__(self, config, told):
        super().__init__(config)
        self.up = asyncio.Event()
        self.told = told

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        self.up.set()

    async def shutdown(self, sockets=None):
        self.told.set()  # uvicorn tells all connections before it waits for the first time
        await super().shutdown(sockets=sockets)


class Uvicorn(Server):
    """uvicorn's own server and httptools protocol, on the event loop's own transport."""

    returned = ()

    def __init__(self, *, state, keep_alive=KEEP_ALIVE, server_header=False, proxy_headers=False, **options):
        super().__init__(state)
        self._config = uvicorn.Config(
            self.switch,
            interface="asgi3",
            http="httptools",
            lifespan="on",
            timeout_keep_alive=keep_alive,
            log_config=None,
            access_log=False,
            proxy_headers=proxy_headers,
            server_header=server_header,
            **options,
        )

    async def start(self):
        """Start the server, and wait until the application has started."""
        self._server = _UvicornServer(self._config, self.told)
        self._serving = asyncio.create_task(self._server.serve(sockets=[]))
        await self._server.up.wait()
        return self

    async def take(self, sock):
        """Serve a connection."""
        served = _Served(sock.family, sock.type, sock.proto, fileno=sock.detach())
        served.setblocking(False)
        served.on_close = self._closed
        self._opened(served)
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, served)

    def _protocol(self):
        return self._config.http_protocol_class(
            config=self._config, server_state=self._server.server_state, app_state=self._server.lifespan.state
        )

    async def retire(self, seconds=30.0):
        """Close idle connections, finish the requests in progress, and end."""
        self._config.timeout_graceful_shutdown = seconds
        self._server.should_exit = True
        await self._serving

    async def end(self):
        """End without waiting for requests in progress."""
        if not self._serving.done():
            await self.retire(0)

    async def close(self):
        """End the server, and wait until its connections are closed: uvicorn ends before its transports do."""
        await self.end()
        for protocol in list(self._server.server_state.connections):
            protocol.transport.abort()
        await self.settled.wait()
