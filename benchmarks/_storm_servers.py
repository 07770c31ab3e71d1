"""The servers of kill_storm.py, and what happens to them: workers are killed, and the server reloads."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _serve_processes import COMMANDS, HERE, Server, free_port

from fdpass.serve.operator.client import ask

OURS = "fdpass"
AGE = 0.7  # seconds after its start from which a worker of another server can be killed
LOOK = 0.02  # seconds between two requests of the status, each of which takes the server a millisecond
AGAIN = 0.01  # seconds until another look for a worker that can be killed
KILLS = (0.15, 0.35)  # seconds between two kills, least and most
RELOADS = (1.0, 1.0)
SETTLED = 20.0  # seconds until the server must have recovered
TICKS = os.sysconf("SC_CLK_TCK")
MORE = {"granian": ("--respawn-failed-workers", "--respawn-interval", "0.1")}  # else it ends with a dead worker


def command(name: str, app: str) -> list[str]:
    """The command of serve.py, with another application."""
    parts = [part.replace("serve_app:", f"{app}:") for part in COMMANDS[name]]
    if name == "node":
        parts[1:1] = ["-r", str(HERE / "_storm_answers.js")]
    return parts


def children(pid: int) -> dict[int, float]:
    """The live children of a process, and the seconds since each was started."""
    found, uptime = {}, float(Path("/proc/uptime").read_text().split()[0])
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            with suppress(FileNotFoundError, ProcessLookupError):
                words = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                if words[0] != "Z" and b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes():
                    found[child] = uptime - int(words[19]) / TICKS
    return found


@dataclass
class Ward:
    """A running server under test."""

    server: Server
    control: str
    file: Path  # the application writes the tokens of executed requests here
    keeper: int = 0  # the process that has become the keeper after the first one was killed

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def pid(self) -> int:
        return self.keeper or self.server.process.pid

    @property
    def alive(self) -> bool:
        first = self.server.process.poll() is None
        return self.keeper in self.server.members if self.keeper else first

    def status(self) -> dict[str, Any]:
        return ask(self.control, "status")

    def told(self) -> dict[str, Any]:
        """The status, as `fdpass status --json` prints it."""
        words = [sys.executable, "-m", "fdpass", "status", "--json", "--control", self.control]
        told: dict[str, Any] = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
        return told

    def victims(self, left: int) -> list[int]:
        """Ready workers that may be killed, of fdpass preferably with connections. Empty if too few would stay."""
        there = children(self.pid)
        if self.name != OURS:
            old = [pid for pid, age in there.items() if age > AGE]
            return old if len(old) > left else []
        ready = [each for each in self.status()["workers"] if each["state"] == "ready" and each["pid"] in there]
        if len(ready) <= left:
            return []
        return [each["pid"] for each in ready if each["connections"]] or [each["pid"] for each in ready]

    def kill_one(self, chance: random.Random, left: int = 1) -> float | None:
        """Kill a worker, and return the time; None if a kill would leave fewer than `left` ready workers."""
        if not (pids := self.victims(left)):
            return None
        with suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)
        return time.monotonic()

    def reload(self) -> None:
        self.server.process.send_signal(signal.SIGHUP)

    def wait(self, condition: Callable[[dict[str, Any]], bool], what: str, seconds: float = SETTLED) -> float:
        """Wait until the status of fdpass fulfils the condition, and return the time."""
        deadline = time.monotonic() + seconds
        while not condition(told := self.status()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s: {told['connections']} {told['workers']}")
            time.sleep(LOOK)
        return time.monotonic()

    def wait_control(self) -> None:
        """Wait until the server can be asked for its status."""
        deadline = time.monotonic() + SETTLED
        while not os.path.exists(self.control):
            if not self.alive or time.monotonic() > deadline:
                raise RuntimeError(f"the server has no control socket{self.server.last_words()}")
            time.sleep(LOOK)

    def wait_settled(self, seconds: float = SETTLED) -> None:
        """Wait until no connection is left, and all workers are ready, as many as at the beginning."""
        self.wait(
            lambda told: (
                told["connections"]["live"] == 0
                and [each["state"] for each in told["workers"]] == ["ready"] * self.server.workers
            ),
            "the server has come to rest",
            seconds,
        )


@contextmanager
def suffering(
    name: str, workers: int, spare: int, *more: str, app: str = "_storm_app", asked: bool = True
) -> Iterator[Ward]:
    """Start the server of this name, and end it at the end. Spare workers of other servers serve, too.

    Args:
        name: Of the server.
        workers: Their number.
        spare: The number of spare workers.
        more: More of its command; `{folder}` stands for a folder that exists while the server runs.
        app: The module of the application.
        asked: The server is ready when its workers have answered; else when fdpass says so.
    """
    with tempfile.TemporaryDirectory() as folder:
        port, log, file = free_port(), Path(folder, "log"), Path(folder, "executed")
        ours = name == OURS
        values = {"python": sys.executable, "port": port, "folder": folder}
        values["workers"] = workers if ours else workers + spare
        words = [part.format(**values) for part in (*command(name, app), *more)]
        words += [*MORE.get(name, ()), *(["--spare", str(spare)] if ours else [])]
        with log.open("wb") as output:
            process = subprocess.Popen(
                words,
                cwd=HERE,
                env={**os.environ, "STORM_FILE": str(file)},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        server = Server(name, port, workers + spare, process, log)
        ward = Ward(server, f"{folder}/ctl", file)
        try:
            if not ours:
                server.wait_ready(30 + workers)
            else:
                if asked:
                    server.workers = workers
                    server.wait_ready(30 + workers)
                    server.workers = workers + spare
                ward.wait_control()
                ward.wait_settled()
            yield ward
        finally:
            server.stop()
            if os.environ.get("STORM_LOG"):
                print(log.read_text(errors="replace"), file=sys.stderr)


@dataclass
class Rage:
    """The kills and reloads of a phase."""

    kills: list[float] = field(default_factory=list)  # times by the monotonic clock
    reloads: int = 0
    exits: float | None = None  # seconds after which the server had exited


def rage(ward: Ward, seconds: float, kinds: str, chance: random.Random, left: int) -> Rage:
    """Kill workers and reload, as `kinds` says, for ``seconds``, or until the server has exited.

    A kill that would leave fewer than `left` ready workers waits until more are ready.
    """
    done, began = Rage(), time.monotonic()
    never = began + 10 * seconds
    kill = began + chance.uniform(*KILLS) if "kill" in kinds else never
    again = began + chance.uniform(*RELOADS) if "reload" in kinds else never
    while (now := time.monotonic()) < began + seconds:
        if not ward.alive:
            done.exits = now - began
            break
        if now >= kill:
            when = ward.kill_one(chance, left)
            done.kills += [when] if when else []
            kill = now + (chance.uniform(*KILLS) if when else AGAIN)
        if now >= again:
            ward.reload()
            done.reloads += 1
            again = now + chance.uniform(*RELOADS)
        time.sleep(max(0.0, min(kill, again, now + 0.1) - time.monotonic()))
    return done
