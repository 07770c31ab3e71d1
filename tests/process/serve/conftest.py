"""Real servers for tests: started as a user starts them, ready by their own notifications, ended afterwards."""

import contextlib
import functools
import http.client
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fdpass import Fd
from fdpass.serve.operator.client import ask

from ._dashboard import Dashboard
from ._websockets import Noted, WebSocket

LIMIT = 60
APP = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": str(os.getpid())})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    body = str(os.getpid()).encode()
    sse = scope["path"] == "/sse"
    headers = [(b"content-type", b"text/event-stream" if sse else b"text/plain")]
    if not sse:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if sse:
        await send({"type": "http.response.body", "body": b"data: " + body + b"\\n\\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send({"type": "http.response.body", "body": body})
"""
"""/: the worker's pid; /sse: the same, and then holds on; a WebSocket: its pid first, then an echo."""


class Server:
    """A running ``fdpass serve``.

    Attributes:
        process: The main process: the keeper, or without one the dispatcher.
        folder: The dispatcher's working folder.
        control: The path of the control socket.
        notifiers: The pids of the processes whose notifications were heard.
        output: The path of the file that gets standard output and standard error.
    """

    def __init__(self, folder, app, flags, *, env, bind, launch, pass_fds):
        self.folder = folder
        self.control = str(folder / "control")
        self.output = folder / "output"
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(folder / "notify"))
        os.chmod(folder / "notify", 0o666)  # as a service manager's socket has it
        self._notices.setblocking(False)
        self._notices.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.heard = []
        self.notifiers = set()
        command = [*(launch or (sys.executable, "-m", "fdpass")), "serve", *([app] if app else [])]
        command += ["--control", self.control, *(part for address in bind for part in ("--bind", address))]
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [*command, *flags],
                cwd=folder,
                # Two versions of a file, of one size and one second, look the same to the cache of bytecode.
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NOTIFY_SOCKET": str(folder / "notify"), **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
            )
        self.pid = self.process.pid

    def wait_heard(self, word):
        """Wait for a notification with this field, such as ``READY=1``; returns the whole notification."""
        while True:
            for index, notice in enumerate(self.heard):
                if word in notice.split("\n"):
                    del self.heard[: index + 1]
                    return notice
            self.heard.append(self._heard())

    def _heard(self):
        with contextlib.suppress(BlockingIOError):  # notifications can be read after the server's end
            return self._notice()
        if self.process.poll() is not None:
            raise AssertionError(f"the server has ended:\n{self.log()}")
        poller = select.poll()
        poller.register(self._notices, select.POLLIN)
        with Fd(os.pidfd_open(self.pid)) as ended:
            poller.register(ended, select.POLLIN)
            ready = dict(poller.poll(LIMIT * 1000))
        if self._notices.fileno() not in ready:
            raise AssertionError(f"the server ended, or was silent:\n{self.log()}")
        return self._notice()

    def _notice(self):
        data, ancillary, *_ = self._notices.recvmsg(4096, 64)
        for _, kind, content in ancillary:
            if kind == socket.SCM_CREDENTIALS:
                self.notifiers.add(struct.unpack("iII", content)[0])
        return data.decode()

    def log(self):
        """Return all that the server has printed so far."""
        return self.output.read_text(errors="replace")

    def wait_log(self, text, count=1):
        """Wait until the log has this text so many times; returns the log."""
        return wait_until(lambda: self.log().count(text) >= count and self.log(), f"{text!r} in:\n", self.log)

    def status(self):
        """Return what ``fdpass status --json`` prints."""
        return ask(self.control, "status")

    def workers(self, state="ready"):
        """Return the pids of the workers in a state."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["state"] == state]

    def wait_status(self, condition):
        """Wait until the status meets a condition; returns it. Checks at each look that its sums agree."""

        def look():
            status = self.status()
            found = status["connections"]
            assert found["accepted"] == found["finished"] + found["live"] + found["lost"], found
            return condition(status) and status

        return wait_until(look, "the status is ", self.status)

    def wait_connections(self, **figures):
        """Wait until the status has these figures of connections; returns it."""
        return self.wait_status(lambda status: figures.items() <= status["connections"].items())

    @functools.cached_property
    def address(self):
        """Host and port of the first listener."""
        host, _, port = self.status()["server"]["listeners"][0].rpartition(":")
        return host.strip("[]"), int(port)

    def wait_read(self, one):
        """Wait until no byte of this client waits in the kernel, or its connection has ended (TCP over IPv4)."""
        here, there = (f":{sock[1]:04X}" for sock in (self.address, one.sock.getsockname()))

        def look():
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                _, local, remote, _, queues, *_ = line.split()
                if local.endswith(here) and remote.endswith(there):
                    return queues.endswith(":00000000")
            return True

        wait_until(look, "all is read: ", self.log)

    def connect(self):
        """A plain connection; the caller closes it."""
        return socket.create_connection(self.address, LIMIT)

    def get(self, path="/", headers=None):
        """Status and body of a request over a connection of its own."""
        connection = http.client.HTTPConnection(*self.address, timeout=LIMIT)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode()

    def exchange(self, data, address=None):
        """Send this over a connection of its own, and return all that comes back until its end."""
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(LIMIT)
            sock.connect(address)
        else:
            sock = socket.create_connection(address or self.address, LIMIT)
        with sock, sock.makefile("rb") as stream:
            sock.sendall(data)
            return stream.read()

    def kill_worker(self, pid):
        """Kill a worker, and wait until the dispatcher has dealt with its connections."""
        os.kill(pid, signal.SIGKILL)
        self.wait_log(f"worker {pid} ended")

    @property
    def dispatcher(self):
        """The pid of the dispatcher: of the main process, if there is no keeper."""
        return self.status()["server"]["dispatcher"]

    @contextlib.contextmanager
    def paused(self):
        """Keeper and dispatcher, stopped until the end."""
        with contextlib.ExitStack() as held:
            for pid in dict.fromkeys((self.pid, self.dispatcher)):  # the keeper first: it would kill the other
                held.enter_context(stopped(pid))
            yield

    def kill_main_processes(self):
        """Kill keeper and dispatcher, and wait for their end."""
        pids = {self.pid, self.dispatcher}
        with self.paused():
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, pids)), "ended, of ", lambda: pids)

    def kill_dispatcher(self):
        """Kill the dispatcher of a server with a keeper, and wait until another takes over. Returns its pid."""
        count = self.log().count("takes over from a dead one")
        dead = self.dispatcher
        assert dead != self.pid
        os.kill(dead, signal.SIGKILL)
        self.wait_log("takes over from a dead one", count + 1)
        return dead

    def kill_dispatcher_and(self, pid):
        """Kill the dispatcher and a worker, so that no dispatcher sees the worker's death."""
        dead = self.dispatcher
        with stopped(self.pid):
            os.kill(dead, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
        self.wait_log(f"worker {pid} ended")

    def executed(self):
        """Return token, attempt and pid of each request that ``kept_app.py`` has executed."""
        try:
            lines = (self.folder / "executed").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(token, int(attempt), int(pid)) for token, attempt, pid in map(str.split, lines)]

    def wait_executed(self, token, attempt=0):
        """Wait until the application has been called for a request; returns the worker's pid."""

        def look():
            return next((pid for *what, pid in self.executed() if what == [token, attempt]), None)

        return wait_until(look, f"{token} ({attempt}) is executed: ", self.log)

    def cli(self, *arguments, check=True):
        """Run ``fdpass VERB ... --control``; returns the finished process."""
        return subprocess.run(
            [sys.executable, "-m", "fdpass", *arguments, "--control", self.control],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=check,
        )

    def kill(self, number):
        """Send a signal to the main process."""
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """Stop it, and return its exit code."""
        self.process.send_signal(number)
        return self.wait_end()

    def wait_end(self):
        """Wait until the server has ended; returns its exit code."""
        return self.process.wait(LIMIT)

    def close(self):
        """End the server in any case, and check that no process of it remains."""
        pids = descendants(self.pid)
        try:
            if self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(LIMIT / 2)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    raise AssertionError(f"the server did not stop:\n{self.log()}") from None
        finally:
            self.process.wait()
            self._notices.close()
        wait_until(lambda: not any(map(alive, pids)), "workers ended, of ", lambda: pids)


class Client:
    """A connection to a server, and requests on it, byte by byte, without a library.

    Attributes:
        sock: The connection.
        worker: The pid of its worker, after `held`.
    """

    def __init__(self, address, source=None):
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(LIMIT)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(address, LIMIT, source and (source, 0))
        self._file = self.sock.makefile("rb")
        self.worker = None

    def wrap(self, context):
        """Speak TLS from now on, with "localhost" as the server's name."""
        self._file.close()
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self._file = self.sock.makefile("rb")

    def close(self):
        """Twice does nothing."""
        self._file.close()
        self.sock.close()

    def reset(self):
        """End the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, path="/", method="GET", **headers):
        """A request without a body; returns the client, which need not read yet."""
        lines = [f"{method} {path} HTTP/1.1", "host: test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        return self

    def ask(self, path="/", token="-", method="GET", body=None, **headers):
        """A request to ``kept_app.py``, sent whole; returns the client."""
        self.sock.sendall(request(path, token, method, body, **headers))
        return self

    def head(self):
        """Status and headers of the response."""
        line, headers = self._file.readline(), {}
        if not line:
            raise EOFError("the server closed the connection")
        while field := self._file.readline().strip():
            name, _, value = field.decode().partition(":")
            headers[name.lower()] = value.strip()
        return int(line.split()[1]), headers

    def answer(self):
        """Status and body of the response."""
        status, headers = self.head()
        return status, self.body(headers)

    def body(self, headers):
        """Read the body of a response with these headers."""
        return self._file.read(int(headers["content-length"])).decode()

    def told(self, status=200):
        """Return the answer of ``kept_app.py``."""
        found, body = self.answer()
        assert found == status, (found, body)
        return json.loads(body)

    def refused(self):
        """Return the reason in the 502 that ends the connection."""
        status, body = self.answer()
        assert (status, self._file.read()) == (502, b"")
        return body

    def cut(self):
        """Read to the end; returns the bytes, and whether the end was a reset."""
        data = b""
        try:
            while some := self._file.read1():
                data += some
        except ConnectionResetError:
            return data, True
        return data, False

    def answered(self):
        """Return the pid of the worker that answers `send`."""
        status, body = self.answer()
        assert status == 200, (status, body)
        return int(body)

    def ended(self):
        """Read to the end; returns whether no bytes came."""
        return not self.rest()

    def failed(self):
        """Read to the end; returns whether there was no answer, or a 502."""
        return self.rest()[:12] in {b"", b"HTTP/1.1 502"}

    def rest(self):
        """Read to the end."""
        try:
            return self._file.read()
        except ConnectionError:
            return b""

    def stream(self):
        """Ask for a stream of events that does not end."""
        return self.send("/sse")

    def upgrade(self):
        """Ask for a WebSocket (RFC 6455)."""
        return self.send(
            connection="Upgrade",
            upgrade="websocket",
            sec_websocket_version=13,
            sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==",
        )

    def held(self):
        """Read the start of the answer to `stream` or `upgrade`, and note the worker."""
        status, _ = self.head()
        if status == 101:
            self.worker = int(self.hear())
        else:
            size = int(self._file.readline(), 16)  # of the first chunk
            self.worker = int(self._file.read(size + 2).removeprefix(b"data: "))
        return self

    def say(self, text):
        """Send a WebSocket message of less than 126 bytes."""
        data = text.encode()
        self.sock.sendall(bytes([0x81, 0x80 | len(data), 0, 0, 0, 0]) + data)  # a mask of zeros changes nothing

    def hear(self):
        """Receive a WebSocket message; returns the close code if the server closes."""
        kind, size = self._file.read(2)
        data = self._file.read(size)
        return int.from_bytes(data[:2], "big") if kind & 0xF == 8 else data.decode()


@pytest.fixture
def client():
    """``client(server, source=None, address=None)``: a `Client`, closed at the end of the test."""
    with contextlib.ExitStack() as held:

        def connect(server, source=None, address=None):
            made = Client(address or server.address, source)
            held.callback(made.close)
            return made

        yield connect


def request(path="/", token="-", method="GET", body=None, version="1.1", **headers):
    """The bytes of a request to ``kept_app.py``; with a body unless it is None."""
    lines = [f"{method} {path}?token={token} HTTP/{version}", "host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None and "transfer_encoding" not in headers:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def wait_until(condition, what, now, limit=LIMIT):
    """Poll until the condition holds, for what no event reports."""
    end = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}{now()}")
        time.sleep(0.01)
    return found


def descendants(pid):
    """The children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def open_files(pid):
    """By number, what the descriptors of a process refer to; it may close some meanwhile."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[number] = os.readlink(f"/proc/{pid}/fd/{number}")
    return found


def alive(pid):
    """Whether a process runs, and is no zombie."""
    return state_of(pid) not in "ZX"


def state_of(pid):
    """The letter of its state (proc(5)): T is stopped, Z has ended and is not reaped; X if there is no such."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def cpu_seconds(pid):
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def stopped(pid):
    """A process, stopped by SIGSTOP until the end; it may be dead by then."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) == "T", "stopped: ", lambda: state_of(pid))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def serve(tmp_path):
    """``serve("module:app", *flags, files={"module.py": text}, env={}, ready=True)``: a `Server`.

    Without an application: that of ``APP``. It has two workers unless told otherwise, and is stopped at
    the end of the test. ``launch`` is a command to be used instead of ``python -m fdpass``; ``pass_fds`` are
    descriptors that it inherits; ``workers=None`` leaves their number to the settings.
    """
    with contextlib.ExitStack() as held:
        count = 0

        def start(
            app="app:app",
            *flags,
            files=None,
            env=None,
            ready=True,
            bind=("127.0.0.1:0",),
            launch=(),
            pass_fds=(),
            workers=2,
        ):
            nonlocal count
            folder = tmp_path / f"server{count}"
            count += 1
            folder.mkdir()
            for name, text in {"app.py": APP, **(files or {})}.items():
                (folder / name).write_text(textwrap.dedent(text))
            if workers and "--workers" not in flags:
                flags = (*flags, "--workers", str(workers))
            server = Server(folder, app, flags, env=env or {}, bind=bind, launch=launch, pass_fds=pass_fds)
            held.callback(server.close)
            if ready:
                server.wait_heard("READY=1")
            return server

        yield start


@pytest.fixture
def kept(serve):
    """``kept(*flags)``: as `serve`, with the application of ``kept_app.py``; idle connections last a minute."""
    text = (Path(__file__).parent / "kept_app.py").read_text()

    def start(*flags, files=None, **more):
        return serve("kept:app", "--keep-alive", "60", *flags, files={"kept.py": text, **(files or {})}, **more)

    return start


@pytest.fixture
def live(serve):
    """``server, noted = live(*flags, websockets="")``: a server with ``live_app.py``, which resumes ``/ws``."""
    text = (Path(__file__).parent / "live_app.py").read_text()

    def start(*flags, websockets="", resume=("--resume", "/ws"), files=None, **more):
        env = {"WEBSOCKETS": websockets} if websockets else {}
        files = {"live_app.py": text, **(files or {})}
        server = serve("live_app:app", *resume, *flags, files=files, env=env, **more)
        return server, Noted(server, wait_until)

    return start


@pytest.fixture
def dashboard():
    """``dashboard(server, *flags)``: a running `Dashboard` of a server, or of a list of them; ended afterwards."""
    with contextlib.ExitStack() as held:

        def start(servers, *flags, **options):
            servers = servers if isinstance(servers, list) else [servers]
            paths = [getattr(server, "control", server) for server in servers]
            controls = [part for path in paths for part in ("--control", path)]
            made = Dashboard(*controls, *flags, **options)
            held.callback(made.close)
            return made

        yield start


@pytest.fixture
def open_websocket():
    """``open_websocket(server, path, **headers)``: an open `WebSocket`, closed at the end of the test."""
    made = []

    def connect(server, path="/ws", address=None, **options):
        made.append(WebSocket(address or server.address, path, **options))
        return made[-1].opened()

    connect.made = made
    yield connect
    for each in made:
        each.close()


@pytest.fixture
def tools():
    """The helpers of this file, for tests that need them by name."""

    class Tools:
        pass

    for helper in (request, wait_until, descendants, alive, state_of, cpu_seconds, stopped):
        setattr(Tools, helper.__name__, staticmethod(helper))
    return Tools
