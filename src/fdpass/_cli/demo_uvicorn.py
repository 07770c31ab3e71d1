"""The uvicorn of ``fdpass demo serve --against uvicorn``: started, killed and reloaded as fdpass is."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fdpass._cli.common import Failure

NAME = "uvicorn"
_PATIENCE = 30.0  # seconds until the first answer


class Uvicorn:
    """A running uvicorn.

    Args:
        process: Its main process.
        address: Where it listens.

    Attributes:
        address: Where it listens.
    """

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self._process = process
        self.address = address

    def kill_any(self) -> int | None:
        """Kill the oldest worker with SIGKILL. Returns its process number; None if there is no worker."""
        for pid in self._children():
            if b"spawn_main" in _command(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return pid
        return None

    def reload(self) -> None:
        """Make uvicorn replace its workers, one after the other."""
        self._process.send_signal(signal.SIGHUP)

    def _children(self) -> list[int]:
        pid = self._process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # the process has ended
        return b""


@contextlib.contextmanager
def running_uvicorn(folder: str, app: str, *, workers: int) -> Iterator[Uvicorn]:
    """Start uvicorn, and wait until it answers a request; stop it at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        number = str(listener.fileno())
        command = [sys.executable, "-m", "uvicorn", app, "--fd", number, "--workers", str(workers)]
        command += ["--log-level", "critical", "--no-access-log", "--timeout-graceful-shutdown", "5"]
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, process_group=0, pass_fds=[listener.fileno()]
        )
    try:
        _wait_for_answer(process, host, port)
        yield Uvicorn(process, f"{host}:{port}")
    finally:
        _stop(process)


def _wait_for_answer(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=1) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
                if sock.recv(12).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            time.sleep(0.05)  # polling is enough for a demonstration
    raise Failure("uvicorn did not start: try python -m uvicorn fdpass._cli.demo_app:app")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop uvicorn, with its workers: they are its process group."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
