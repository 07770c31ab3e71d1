"""`Namespace`: a network namespace with a unique name, in which programs are started and functions called."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

LIMIT = 60.0  # seconds for anything that is waited for
LOOK_AGAIN = 0.02  # seconds between two looks at facts that no descriptor reports
CLONE_NEWNET = 0x40000000
PATHS = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"

Result = TypeVar("Result")


def missing() -> str:
    """Why this machine can run no fleet; empty if it can."""
    for program in ("ip", "haproxy"):
        if shutil.which(program, path=PATHS) is None:
            return f"{program} is not installed"
    name = _unique("probe")
    tried = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
    if tried.returncode:
        return f"no network namespaces: {tried.stderr.strip()}"
    paired = subprocess.run(
        ["ip", "-n", name, "link", "add", "name", "a", "type", "veth", "peer", "name", "b"],
        check=False,
        capture_output=True,
        text=True,
    )
    ip("netns", "del", name)
    return f"no veth interfaces: {paired.stderr.strip()}" if paired.returncode else ""


def _unique(word: str) -> str:
    return f"fdpass-{word}-{uuid.uuid4().hex[:8]}"


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def wait_until(holds: Callable[[], object], what: str, seconds: float = LIMIT) -> None:
    """Wait for a fact of other processes."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} within {seconds:.0f} s")
        time.sleep(LOOK_AGAIN)


class Namespace:
    """A network namespace with a unique name."""

    def __init__(self, word: str) -> None:
        self.name = _unique(word)
        ip("netns", "add", self.name)

    def ip(self, *arguments: str) -> str:
        return ip("-n", self.name, *arguments)

    def start(self, *command: str | Path, **options: object) -> subprocess.Popen[bytes]:
        """Start a program inside. `ip` becomes this program: its process number is the same."""
        words = ["ip", "netns", "exec", self.name, *map(str, command)]
        return subprocess.Popen(words, **options)  # type: ignore[call-overload, no-any-return]

    def pids(self) -> list[int]:
        return [int(pid) for pid in ip("netns", "pids", self.name).split()]

    def kill(self) -> None:
        """Kill all processes inside, also those that they start meanwhile."""

        def empty() -> bool:
            found = self.pids()
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not found

        wait_until(empty, f"no process in {self.name}")

    def run(self, function: Callable[[], Result]) -> Result:
        """Call a function in a thread of this namespace: the sockets that it makes belong to this network."""
        results: list[Result] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                with open(f"/run/netns/{self.name}", "rb") as file:
                    if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")  # noqa: TRY301 - told to the caller's thread
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def remove(self) -> None:
        self.kill()
        ip("netns", "del", self.name)
