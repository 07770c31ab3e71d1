"""`serve`: an application on each kind of server, and clients of it. Coroutine functions are tests here.

The kinds are ``custody`` (as `fdpass serve` has it), ``plain`` (``--custody off``), ``tls``, and ``uvicorn``: uvicorn's
own server, to compare with. Each has one server for all tests, on each event loop; a test that ends its server asks
for ``fresh``, whose loop has a fast clock.
"""

import asyncio
import contextlib
import functools
import importlib.util
import inspect
import logging
import selectors
import shutil
import socket
import ssl
import subprocess
import time

import pytest

pytest.importorskip("httptools")
pytest.importorskip("uvicorn")

from ._apps import part, sends, start  # noqa: E402 - after the check that they are installed
from ._client import Client, TlsClient  # noqa: E402
from ._servers import Fdpass, Uvicorn

KINDS = ("custody", "plain", "tls", "uvicorn")
_HANG = 30  # s: a test that takes longer has failed
_LEFT = 10  # s: until what the clients have left is over
_FAST = 10  # times as fast as time goes is the clock of the fast loop
_OWN = ("uvicorn.error", "fdpass")
STATE = {"shared": ["from the lifespan"], "number": 1}


class _FastSelector(selectors.EpollSelector):
    def select(self, timeout=None):
        return super().select(timeout / _FAST if timeout else timeout)


class FastLoop(asyncio.SelectorEventLoop):
    """Timers take a fraction of their time."""

    def __init__(self):
        super().__init__(_FastSelector())

    def time(self):
        return time.monotonic() * _FAST


def _loop_factory(name):
    if name == "uvloop":
        return pytest.importorskip("uvloop").new_event_loop
    return {"asyncio": asyncio.SelectorEventLoop, "fast": FastLoop}[name]


class Serve:
    """See above.

    Attributes:
        kind: custody, plain, tls or uvicorn.
        loop: asyncio, uvloop or fast.
        raised: What reached the loop's exception handler; if anything is left in it, the test has failed.
    """

    def __init__(self, kind, loop, listener, files):
        self.kind, self.loop = kind, loop
        self._listener, self._files = listener, files
        self._server = None
        self._clients = []
        self._tasks = []
        self.raised = []
        self.log = None

    # What differs

    @property
    def reference(self):
        """It is uvicorn itself."""
        return self.kind == "uvicorn"

    def agreed(self, found, uvicorn, *better):
        """Assert that it is as uvicorn does it; with fdpass something better will do as well."""
        allowed = [uvicorn] if self.reference else [uvicorn, *better]
        assert found in allowed, f"{found} is none of {allowed}"

    @property
    def clients(self):
        """All clients of the test."""
        return self._clients

    @property
    def server(self):
        """The server of this kind."""
        return self._server

    @property
    def old(self):
        """It has uvicorn's protocol inside fdpass, and so some faults that are known."""
        return not self.reference and importlib.util.find_spec("fdpass.serve.worker.http") is None

    async def over(self):
        """Until the application has been called, and no call goes on."""
        await self._server.switch.called.wait()
        await self._server.switch.quiet.wait()

    def task(self, coroutine):
        """A task that is not left over: it is cancelled at the end of the test."""
        self._tasks.append(asyncio.create_task(coroutine))
        return self._tasks[-1]

    async def start(self, **options):
        """Start a server, or another one; of `fresh` only."""
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
        """A client, connected to a server that has this application."""
        self._server.switch.app = app
        self._server.switch.called.clear()
        return await self.connect(**options)

    async def connect(self, *, room=0):
        """One more client; ``room``: how much its socket and the server's hold, for a slow one."""
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

    def _paired(self, room):
        client = socket.socket(self._listener.family, socket.SOCK_STREAM, self._listener.proto)
        if room:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        client.connect(self._listener.getsockname())
        return client

    # Around a test

    async def warm_up(self):
        """A loop's first connection opens descriptors that it keeps."""
        client = await self(sends(start(204), part()))
        await client.get()
        client.close()
        self._clients.clear()
        await self._let_end(self._server)

    @contextlib.asynccontextmanager
    async def around(self, caplog):
        """A test: afterwards nothing of it goes on in the server."""
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
            async with asyncio.timeout(_LEFT * (_FAST if self.loop == "fast" else 1)):
                await server.settled.wait()
                await server.switch.quiet.wait()
        except TimeoutError:
            left = [*server.open, *server.switch.calls]
            for call in server.switch.calls:
                call.cancel()
            if self.loop != "fast":  # the other tests have nothing to do with it
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(server.close(), _LEFT)
                await self.start(keep_alive=60.0)
            raise AssertionError(f"this goes on, although its client has gone: {left}") from None

    @property
    def lines(self):
        """The messages that the server has logged at warning or above, in this test; cleared by this."""
        found = [
            record.getMessage().rstrip()
            for record in self.log.records
            if record.levelno >= logging.WARNING and record.name.startswith(_OWN)
        ]
        self.log.clear()
        return found

    def said(self, words):
        """Whether it has logged one line; uvicorn in these words."""
        lines = self.lines
        return len(lines) == 1 and (not self.reference or lines == [words])


@functools.cache
def _trusting(file):
    return ssl.create_default_context(cafile=file)


@pytest.fixture(scope="session")
def _files(tmp_path_factory):
    """A certificate that its own key has signed, and the key; None without openssl."""
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
    """A module that has ``EACH_KIND = True`` holds what no loop has a part in: each kind is tested on one."""
    if "_shared" in metafunc.fixturenames:
        params = EACH_KIND if getattr(metafunc.module, "EACH_KIND", False) else ALL
        metafunc.parametrize("_shared", params, indirect=True, scope="session")


@pytest.fixture(scope="session")
def _shared(request, _fdpass_process_wide, _listener, _files):
    """A server of each kind, and its loop."""
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
    """``client = await serve(app)``: a server that has this application, and a client of it. See `Serve`."""
    return _shared


@pytest.fixture(params=KINDS)
def fresh(request, _fdpass_process_wide, _listener, _files):
    """The same, but that the test starts the server, with ``await fresh.start()``, and may end it."""
    if request.param == "tls" and _files is None:
        pytest.skip("openssl is not installed")
    return Serve(request.param, "fast", _listener, _files)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is a coroutine function, in the loop of its server."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    given = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    serve = given.get("serve") or given["fresh"]
    caplog = pyfuncitem.funcargs["caplog"]
    if "serve" in given:
        serve.runner.run(_bounded(serve, caplog, test, given))
    else:
        with asyncio.Runner(loop_factory=FastLoop) as runner:
            runner.run(_bounded(serve, caplog, test, given))
    return True


async def _bounded(serve, caplog, test, given):
    async with asyncio.timeout(_HANG * (_FAST if serve.loop == "fast" else 1)):
        try:
            async with serve.around(caplog):
                await test(**given)
        finally:
            if serve.loop == "fast" and serve.server is not None:
                await serve.server.close()


@pytest.fixture(autouse=True)
def _log(caplog):
    """What servers log is looked at in many tests."""
