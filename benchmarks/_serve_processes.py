"""The servers that serve.py compares: their command lines, start and stop, and figures from /proc.

A server runs in a session of its own: every process in that session belongs to it, forked children too.
"""

from __future__ import annotations

import importlib.util
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
HOST = "127.0.0.1"
PATIENCE = 5.0  # seconds that each server may take to end its connections, if it has an option for that
LOOK_AGAIN = 0.02  # seconds between two looks at facts that no descriptor reports
ASK_PID = b"GET /pid HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

APP = "serve_app:app"
FDPASS = (
    *("{python}", "-m", "fdpass", "serve", APP, "--app-dir", str(HERE), "--workers", "{workers}"),
    *("--bind", "127.0.0.1:{port}", "--control", "{folder}/ctl", "--graceful-timeout", "5"),
    *("--loop", "uvloop", "--log-level", "error"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "fdpass": FDPASS,
    "fdpass-accept": (*FDPASS, "--accept", "worker"),
    "fdpass-resume": (*FDPASS, "--resume", "/echo"),
    "uvicorn": (
        *("{python}", "-m", "uvicorn", APP, "--workers", "{workers}", "--port", "{port}"),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "error"),
        *("--timeout-graceful-shutdown", "5"),
    ),
    "gunicorn": (
        *(
            "{python}",
            "-m",
            "gunicorn",
            APP,
            "-k",
            "asgi",
            "-w",
            "{workers}",
            "-b",
            "127.0.0.1:{port}",
        ),
        *("--asgi-loop", "uvloop", "--log-level", "error", "--graceful-timeout", "5"),
    ),
    "hypercorn": (
        *("{python}", "-m", "hypercorn", APP, "-k", "uvloop", "-w", "{workers}"),
        *("-b", "127.0.0.1:{port}", "--log-level", "error", "--graceful-timeout", "5"),
    ),
    "granian": (
        *("{python}", "-m", "granian", APP, "--interface", "asgi", "--loop", "uvloop"),
        *("--workers", "{workers}", "--port", "{port}", "--log-level", "error", "--workers-kill-timeout", "5"),
    ),
    "node": ("node", str(HERE / "cluster.js"), "{port}", "{workers}"),
}


def missing(name: str) -> str:
    """Why this server cannot be measured on this machine; empty if it can."""
    if name == "node":
        return "" if shutil.which("node") else "there is no node in PATH"
    module = name.partition("-")[0]
    if importlib.util.find_spec(module) is None:
        return f"no module {module}"
    if module == "fdpass":
        asked = [sys.executable, "-m", "fdpass", "serve", "--help"]
        if subprocess.run(asked, check=False, capture_output=True).returncode:
            return "this fdpass has no `serve`"
    return ""


def processor_time(pid: int) -> float:
    """Processor time in seconds of a process, ended threads included; its clock has ns: clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid) << 3 | 2)


def pss(pid: int) -> int:
    """Memory in bytes; shared pages are divided among the processes that share them (proc_pid_smaps(5))."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def _alive_in(session: int) -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                state, _, _, of = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:4]
                if int(of) == session and state != "Z":
                    yield int(entry)


def ended(pids: Iterable[int], seconds: float) -> bool:
    """Wait until all of the processes are gone."""
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        poll, waiting = select.poll(), set[int]()
        for pid in pids:
            with suppress(ProcessLookupError):
                waiting.add(pidfd := os.pidfd_open(pid))
                stack.callback(os.close, pidfd)
                poll.register(pidfd, select.POLLIN)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for pidfd, _ in poll.poll(left * 1000):
                waiting.discard(pidfd)
                poll.unregister(pidfd)
        return not waiting


def free_port() -> int:
    """A free port below those that clients get, so that no client takes it before the server binds it."""
    for port in range(20000 + os.getpid() % 5000, 32000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise RuntimeError("no free port")


def answers(port: int, requests: int) -> set[int]:
    """The pids that answer ``count`` requests, all of which are sent before the first answer is read."""
    pids = set[int]()
    with ExitStack() as stack:
        asked = []
        for _ in range(requests):
            with suppress(OSError):
                asked.append(stack.enter_context(socket.create_connection((HOST, port), timeout=2)))
                asked[-1].sendall(ASK_PID)
        for sock in asked:
            with suppress(OSError, ValueError):
                pids.add(int(sock.makefile("rb").read().partition(b"\r\n\r\n")[2]))
    return pids


@dataclass
class Server:
    """A server that runs."""

    name: str
    port: int
    workers: int
    process: subprocess.Popen[bytes]
    log: Path
    pids: set[int] = field(default_factory=set)  # of the workers, at the last look

    @property
    def members(self) -> list[int]:
        return list(_alive_in(self.process.pid))

    def wait_ready(self, seconds: float, without: Iterable[int] = ()) -> None:
        """Wait until every worker has answered, those of `without` not counted."""
        deadline, seen, gone = time.monotonic() + seconds, set[int](), set(without)
        while len(seen) < self.workers:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server exited with {self.process.returncode}{self.last_words()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(seen)} of {self.workers} workers answered{self.last_words()}")
            seen = ((seen | answers(self.port, 4 * self.workers)) - gone) & set(self.members)
            time.sleep(LOOK_AGAIN)
        self.pids = seen

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return f": {lines[-1][:200]}" if lines else ""

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE + 2)
        for pid in self.members:  # all processes of its session
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(name: str, workers: int, *more: str, app: str = APP) -> Iterator[Server]:
    """Start the server of this name, and wait until every worker has answered; end it at the end.

    RuntimeError: It cannot serve this application.
    """
    if app != APP and APP not in COMMANDS[name]:
        raise RuntimeError("it serves no other application")
    with tempfile.TemporaryDirectory() as folder:
        port, log = free_port(), Path(folder, "log")
        values = {"python": sys.executable, "port": port, "workers": workers, "folder": folder}
        parts = [app if part == APP else part for part in COMMANDS[name]]
        command = [part.format(**values) for part in (*parts, *more)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=HERE, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        server = Server(name, port, workers, process, log)
        try:
            server.wait_ready(30 + workers)
            yield server
        finally:
            server.stop()
