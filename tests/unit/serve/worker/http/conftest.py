"""`serve` and `fresh`: they run an application on each kind of server, and connect clients to it.

The kinds are ``custody`` (the default of `fdpass serve`), ``plain`` (``--custody off``), ``tls``, and ``uvicorn``:
uvicorn's own server, the reference. All tests share one server for each kind and event loop. A test that ends its
server, or sets something, uses ``fresh``: its server is the test's own, and its loop has a clock that jumps.

pytest runs the coroutine functions in this folder in the loop of their server.
"""

import asyncio
import contextlib
import functools
import importlib.util
import logging
import selectors
import shutil
import socket
import ssl
import subprocess
from types import SimpleNamespace

import pytest

pytest.importorskip("httptools")
pytest.importorskip("uvicorn")

from fdpass.serve.worker.engines import asgi
from fdpass.serve.worker.http import exchange, protocol

from .._coroutines import arguments_of
from ._apps import part, sends, start
from ._client import Client, TlsClient
from ._servers import Fdpass, Uvicorn

KINDS = ("custody", "plain", "tls", "uvicorn")
_HANG = 30  # seconds after which a test fails
_LEFT = 10  # seconds for the server to end the connections of a test that is over
_QUIET = 0.01  # seconds without an event after which the clock jumps: the kernel is through with what was sent
_LONGER = 10  # how much longer the limits above are on a clock that jumps
_OWN = ("uvicorn.error", "fdpass")
STATE = {"shared": ["from the lifespan"], "number": 1}


class _JumpSelector(selectors.EpollSelector):
    """Instead of waiting, lets the clock jump to the next timer, once nothing has been ready for a moment."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0

    def select(self, timeout=None):
        if not timeout or timeout < 0:
            return super().select(timeout)
        ready = super().select(_QUIET)
        if not ready:
            self.now += timeout
        return ready


class JumpLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands while there is something to do: a slow machine changes nothing."""

    def __init__(self):
        self._clock = _JumpSelector()
        super().__init__(self._clock)

    def time(self):
        return self._clock.now


def _loop_factory(name):
    if name == "uvloop":
        return pytest.importorskip("uvloop").new_event_loop
    return {"asyncio": asyncio.SelectorEventLoop, "jumps": JumpLoop}[name]


class Serve:
    """One kind of server on one event loop, and the clients of the present test.

    Attributes:
        kind: custody, plain, tls or uvicorn.
        loop: asyncio, uvloop or jumps.
        raised: The calls of the loop's exception handler. The test fails if it leaves one here.
    """

    def __init__(self, kind, loop, listener, files):
        self.kind, self.loop = kind, loop
        self._listener, self._files = listener, files
        self._server = None
        self._clients = []
        self._tasks = []
        self.raised = []
        self.log = None

    @property
    def reference(self):
        """Whether the server is uvicorn itself."""
        return self.kind == "uvicorn"

    def agreed(self, found, uvicorn, *better):
        """Assert that the server does what uvicorn does, or, if it is fdpass, one of the better things."""
        allowed = [uvicorn] if self.reference else [uvicorn, *better]
        assert found in allowed, f"{found} is none of {allowed}"

    @property
    def clients(self):
        """All clients of the present test."""
        return self._clients

    @property
    def server(self):
        """The server of this kind."""
        return self._server

    @property
    def old(self):
        """Whether fdpass serves with uvicorn's protocol class, which has known faults."""
        return not self.reference and importlib.util.find_spec("fdpass.serve.worker.http") is None

    async def over(self):
        """Wait until the application has been called and all its calls have ended."""
        await self._server.switch.called.wait()
        await self._server.switch.quiet.wait()

    def task(self, coroutine):
        """Run a coroutine in a task, which the end of the test cancels."""
        self._tasks.append(asyncio.create_task(coroutine))
        return self._tasks[-1]

    async def start(self, **options):
        """Start the server. A test calls this on `fresh` only."""
        if self.kind == "uvicorn":
            self._server = Uvicorn(state=STATE, **options)
        else:
            files = self._files if self.kind == "tls" else None
            address = self._listener.getsockname()
            self._server = Fdpass(
                address=address, custody=self.kind == "custody", files=files, state=STATE, **options
            )
        await self._server.start()
        return self._server

    async def __call__(self, app, **options):
        """Give the server this application, and connect a client."""
        self._server.switch.app = app
        self._server.switch.called.clear()
        return await self.connect(**options)

    async def connect(self, *, room=0):
        """Connect a client. ``room``: bytes that each socket's buffer holds; 0 = the kernel's default."""
        client = self._paired(room)
        sock, _ = self._listener.accept()
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        served = await self._server.take(sock)
        if self.kind == "tls":
            context = _trusting(self._files[0])
            made = TlsClient(client, served, context)
            self._clients.append(made)
            await made.shake_hands()
        else:
            made = Client(client, served)
            self._clients.append(made)
        return made

    async def connect_without_tls(self):
        """Connect a client that does no TLS handshake."""
        client = self._paired(0)
        self._clients.append(Client(client, await self._server.take(self._listener.accept()[0])))
        return self._clients[-1]

    def _paired(self, room):
        client = socket.socket(self._listener.family, socket.SOCK_STREAM, self._listener.proto)
        if room:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        if (
            self.loop == "jumps"
        ):  # else a second small write waits 40 ms for an acknowledgement, and the clock jumps
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect(self._listener.getsockname())
        return client

    # Around a test

    async def warm_up(self):
        """Serve one connection: a loop opens some descriptors with its first one, and keeps them."""
        client = await self(sends(start(204), part()))
        await client.get()
        client.close()
        self._clients.clear()
        await self._let_end(self._server)

    @contextlib.asynccontextmanager
    async def around(self, caplog):
        """Run a test, close its clients, and check that the server has ended all that the test began."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, about: self.raised.append(about))
        self.log, self.raised = caplog, []
        caplog.set_level(logging.WARNING)
        try:
            yield
        finally:
            for client in self._clients:
                client.close()
            for task in self._tasks:
                task.cancel()
            self._clients.clear()
            self._tasks.clear()
            if self._server is not None:
                await self._let_end(self._server)
        assert not self.raised

    async def _let_end(self, server):
        try:
            async with asyncio.timeout(_LEFT * (_LONGER if self.loop == "jumps" else 1)):
                await server.settled.wait()
                await server.switch.quiet.wait()
        except TimeoutError:
            left = [*server.open, *server.switch.calls]
            for call in server.switch.calls:
                call.cancel()
            if self.loop != "jumps":  # the next tests need a server without these leftovers
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(server.close(), _LEFT)
                await self.start(keep_alive=60.0)
            raise AssertionError(
                f"the server goes on with these, although their clients have gone: {left}"
            ) from None

    @property
    def lines(self):
        """The lines that the server has logged at warning or above since the last look."""
        found = [
            record.getMessage().rstrip()
            for record in self.log.records
            if record.levelno >= logging.WARNING and record.name.startswith(_OWN)
        ]
        self.log.clear()
        return found

    def said(self, words):
        """Whether the server has logged one line. uvicorn's must consist of these words."""
        lines = self.lines
        return len(lines) == 1 and (not self.reference or lines == [words])


@functools.cache
def _trusting(file):
    context = ssl.create_default_context(cafile=file)
    # Python 3.11.2 sets it: then an end without close_notify looks like an end with one.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


@pytest.fixture(scope="session")
def _files(tmp_path_factory):
    """The paths of a self-signed certificate and its key; None without openssl."""
    tool = shutil.which("openssl")
    if tool is None:
        return None
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [tool, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", cert, "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    _trusting(str(cert))
    return str(cert), str(key)


@pytest.fixture(scope="session")
def _listener():
    with socket.socket(proto=socket.IPPROTO_TCP) as sock:  # else no NODELAY
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


ALL = (
    *("custody-asyncio", "custody-uvloop", "plain-asyncio", "plain-uvloop", "tls-asyncio", "tls-uvloop"),
    "uvicorn-asyncio",
)
EACH_KIND = ("custody-asyncio", "plain-uvloop", "tls-asyncio", "uvicorn-asyncio")


def pytest_generate_tests(metafunc):
    """Run each test on all kinds and loops; a module with ``EACH_KIND = True`` on one loop for each kind."""
    if "_shared" in metafunc.fixturenames:
        params = EACH_KIND if getattr(metafunc.module, "EACH_KIND", False) else ALL
        metafunc.parametrize("_shared", params, indirect=True, scope="session")


@pytest.fixture(scope="session")
def _shared(request, _fdpass_process_wide, _listener, _files):
    """A running server, and its loop."""
    kind, loop = request.param.split("-")
    if kind == "tls" and _files is None:
        pytest.skip("openssl is not installed")
    made = Serve(kind, loop, _listener, _files)
    with asyncio.Runner(loop_factory=_loop_factory(loop)) as runner:
        made.runner = runner
        runner.run(made.start(keep_alive=60.0))
        runner.run(made.warm_up())
        yield made
        runner.run(made.server.close())


@pytest.fixture
def serve(_shared):
    """``client = await serve(app)`` connects a client to a server with this application. See `Serve`."""
    return _shared


@pytest.fixture(params=KINDS)
def fresh(request, monkeypatch, _fdpass_process_wide, _listener, _files):
    """The same, but the test starts a server of its own with ``await fresh.start()``, and may end it."""

    def now():
        return asyncio.get_running_loop().time()

    for module in (exchange, protocol):  # the clock of the loop, as otherwise
        monkeypatch.setattr(module, "monotonic", now)
    monkeypatch.setattr(asgi, "time", SimpleNamespace(time=now))
    if request.param == "tls" and _files is None:
        pytest.skip("openssl is not installed")
    return Serve(request.param, "jumps", _listener, _files)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a coroutine function as a test, in the loop of its server."""
    test, given = pyfuncitem.obj, arguments_of(pyfuncitem)
    if given is None:
        return None
    serve = given.get("serve") or given["fresh"]
    caplog = pyfuncitem.funcargs["caplog"]
    if "serve" in given:
        serve.runner.run(_bounded(serve, caplog, test, given))
    else:
        with asyncio.Runner(loop_factory=JumpLoop) as runner:
            runner.run(_bounded(serve, caplog, test, given))
    return True


async def _bounded(serve, caplog, test, given):
    async with asyncio.timeout(_HANG * (_LONGER if serve.loop == "jumps" else 1)):
        try:
            async with serve.around(caplog):
                await test(**given)
        finally:
            if serve.loop == "jumps" and serve.server is not None:
                await serve.server.close()


@pytest.fixture(autouse=True)
def _log(caplog):
    """Capture the log for `Serve.lines`."""
