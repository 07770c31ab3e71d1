"""The servers of instructions.py: their start, and the counters of their processes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from _instructions_callgrind import functions
from _serve_processes import COMMANDS, HERE, PATIENCE, Server, free_port

ON, OFF, RESUME, OTHER = "fdpass", "fdpass-custody-off", "fdpass-resume", "uvicorn"
WORKER, DISPATCHER = "worker", "dispatcher"
LONG = "3600"  # seconds: no connection ends, and no worker is killed, because valgrind is slow
OURS = ("--workers", "1", "--keeper", "off", "--hang-timeout", "0", "--start-timeout", LONG, "--keep-alive", LONG)
SERVERS: dict[str, tuple[str, ...]] = {
    ON: OURS,
    OFF: (*OURS, "--custody", "off"),
    RESUME: (*OURS, "--resume", "/"),
    OTHER: ("--workers", "1", "--timeout-keep-alive", LONG),
}
START_SECONDS = 120.0
LOOK_AGAIN = 0.0002  # seconds; a request takes a process under callgrind some milliseconds


def command(name: str, app: str, under: Sequence[str], folder: str, port: int) -> list[str]:
    """As serve.py starts the server, with `under` for the interpreter of each of its processes."""
    values = {"python": "", "port": port, "workers": 1, "folder": folder}
    parts = COMMANDS[name.partition("-")[0]]
    words = [part.format(**values).replace("serve_app:app", app) for part in parts[1:]] + [*SERVERS[name]]
    if name == OTHER:
        return [*under, *words]
    interpreter = Path(folder, "python")  # the dispatcher starts its worker with it
    interpreter.write_text(f'#!/bin/sh\nexec {shlex.join(under)} "$@"\n')
    interpreter.chmod(0o700)
    return [*under, str(HERE / "_instructions_launch.py"), str(interpreter), *words[2:]]


class Reading(NamedTuple):
    """What a process did since the reading before."""

    functions: Counter[str]  # instructions or bytecodes, by function
    seconds: float
    calls: Mapping[str, int] = MappingProxyType({})


class Counted:
    """A server that runs, each process of which counts what it does."""

    about = ""  # after the name of a server

    def __init__(self, server: Server, folder: str) -> None:
        self.server, self.folder = server, folder
        self.pids = {WORKER: min(server.pids)}
        if server.process.pid not in server.pids:
            self.pids[DISPATCHER] = server.process.pid
        self._since = dict[str, float]()

    @staticmethod
    def under(folder: str) -> list[str]:
        """The words before those that the interpreter gets."""
        raise NotImplementedError

    def counts(self, pid: int) -> list[Counter[str]]:
        """Of a process, those of each function; sets them to 0."""
        raise NotImplementedError

    def read(self, role: str) -> Reading:
        found = self.counts(self.pids[role])
        now = time.monotonic()
        seconds, self._since[role] = now - self._since.get(role, now), now
        return Reading(found[0], seconds, *found[1:])

    def wait_asleep(self) -> None:
        """Until no process runs: a process that has sent an answer still has work to do.

        A process that another wakes runs from that moment on, so two looks at all of them are enough.
        """
        looks = 0
        while looks < 2:
            if all(map(_sleeps, self.pids.values())):
                looks += 1
            else:
                looks = 0
                time.sleep(LOOK_AGAIN)


class UnderCallgrind(Counted):
    """Counts the instructions of C functions. The counters are off until the server is ready: that saves time."""

    about = "under callgrind"

    def __init__(self, server: Server, folder: str) -> None:
        super().__init__(server, folder)
        self._parts = Counter[int]()  # how many files each process has written
        for pid in self.pids.values():
            self._control(pid, "instrumentation on")

    @staticmethod
    def under(folder: str) -> list[str]:
        return [
            *("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--dump-line=no"),
            *(f"--callgrind-out-file={folder}/out.%p", f"--vgdb-prefix={folder}/vgdb", sys.executable),
        ]

    def _control(self, pid: int, order: str) -> None:
        words = ["vgdb", f"--pid={pid}", f"--vgdb-prefix={self.folder}/vgdb", *order.split()]
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"vgdb failed: {done.stderr.strip()}")

    def counts(self, pid: int) -> list[Counter[str]]:
        self._control(pid, "dump")
        self._parts[pid] += 1
        file = Path(self.folder, f"out.{pid}.{self._parts[pid]}")
        found = functions(file.read_text(errors="replace"))
        file.unlink()
        return [found]


class UnderTrace(Counted):
    """Counts the bytecodes and the calls of Python functions, without valgrind."""

    about = "with its Python functions traced"

    @staticmethod
    def under(folder: str) -> list[str]:
        return [sys.executable, "-P", str(HERE / "_instructions_python.py"), folder]

    def counts(self, pid: int) -> list[Counter[str]]:
        file, deadline = Path(self.folder, f"counts.{pid}"), time.monotonic() + PATIENCE
        os.kill(pid, signal.SIGUSR2)
        while not file.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("a process does not write its counts")
            time.sleep(LOOK_AGAIN)
        found = [Counter(each) for each in json.loads(file.read_text())]
        file.unlink()
        return found


def _sleeps(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b") ")[2][:1] == b"S"


@contextmanager
def counted(name: str, app: str, kind: type[Counted]) -> Iterator[Counted]:
    """The server of this name, whose worker has answered; ended afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        port, log = free_port(), Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                command(name, app, kind.under(folder), folder, port),
                cwd=HERE,
                # strings hash alike in each run, so that each dict is laid out alike
                env={**os.environ, "PYTHONHASHSEED": "0"},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        server = Server(name, port, 1, process, log)
        try:
            server.wait_ready(START_SECONDS)
            yield kind(server, folder)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            raise RuntimeError(f"{name}: {error}") from error
        finally:
            server.stop()
