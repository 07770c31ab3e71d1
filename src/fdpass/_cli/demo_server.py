"""The server of a demonstration: started on loopback with an application of fdpass, killed, stopped."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fdpass._cli.common import Failure
from fdpass.errors import FdpassError, StartFailed
from fdpass.serve.operator.client import ask
from fdpass.serve.worker import engines


class Place(NamedTuple):
    """A running server.

    Attributes:
        control: The path of its control socket.
        address: Where it listens.
        stop: Makes it stop, without waiting for its end.
    """

    control: str
    address: str
    stop: Callable[[], None]


def require(*modules: str) -> None:
    """Import the optional packages that a demonstration needs."""
    try:
        engines.engine_class("asgi")
        for module in modules:
            importlib.import_module(module)
    except StartFailed as error:
        raise Failure(str(error)) from error
    except ImportError as error:
        raise Failure(f"{error}: install it with pip install 'fdpass[serve]'") from error


@contextlib.contextmanager
def running(folder: str, app: str, *flags: str, workers: int, port: int = 0) -> Iterator[Place]:
    """Start a server with one spare worker, and wait until its workers are ready; stop it at the end."""
    control = os.path.join(folder, "control")
    command = [sys.executable, "-m", "fdpass", "serve", app, "--bind", f"127.0.0.1:{port}", *flags]
    command += [
        "--workers",
        str(workers),
        "--spare",
        "1",
        "--control",
        control,
        "--log-level",
        "critical",
        "--no-access-log",
    ]
    # A process group of its own: Ctrl-C reaches the demonstration alone, which then stops the server.
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, process_group=0)
    try:
        yield Place(control, _address(process, control, workers + 1), process.terminate)
    finally:
        process.terminate()
        process.wait()


def _address(process: subprocess.Popen[bytes], control: str, count: int) -> str:
    """Return the server's address, once so many workers are ready."""
    while process.poll() is None:
        try:
            status = ask(control, "status")
        except FdpassError:
            status = {"workers": []}
        if len(status["workers"]) >= count and all(worker["state"] == "ready" for worker in status["workers"]):
            address: str = status["server"]["listeners"][0]
            return address
        time.sleep(0.05)  # polling is enough for a demonstration
    raise Failure("the server did not start: run fdpass serve to see its error")


def kill_any(workers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Kill one of the ready workers with SIGKILL; returns its row of the status, None if there is none."""
    victims = [worker for worker in workers if worker["state"] == "ready"]
    if not victims:
        return None
    victim = random.choice(victims)  # noqa: S311 - any will do
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim["pid"], signal.SIGKILL)
    return victim
