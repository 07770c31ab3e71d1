"""The phases of `kill_storm.py keeper`: load while the dispatcher, workers, both, or more than these are killed.

All processes of the server are in its session. The dispatcher is the keeper's child that is no worker. Workers are
killed that serve, start and retire, but not the last one that serves: a request that meets two kills gets a 502.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from _serve_processes import HOST
from _storm_clients import GIVEN_UP, Storm, Toll, storming
from _storm_idle import held_by, hold
from _storm_phases import books, executed, kills_met, of_wrk, wrk
from _storm_servers import Ward

from fdpass.errors import FdpassError

KEPT, BRIEF = 64, 16  # clients of GET that keep their connection, and that open one per request
POSTS = 16, 4  # likewise of POST
OTHERS = 0.25  # of the kills of workers: of those that start or retire
SPREAD = 0.4  # of the time between two events
PROBE = b"GET /t/probe-1-0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
PATIENCE = 10.0  # seconds for a new client's answer, and until no descriptor is left over
SETTLED = 60.0  # seconds until the server must have recovered: a reload may have begun a moment ago
REST = 0.05  # seconds between two looks
LOOK = 0.002  # the same, for the next keeper
Row = dict[str, Any]


@dataclass(frozen=True)
class Weather:
    """How a phase is run."""

    seconds: float
    seed: int
    every: float  # seconds between two deaths of the dispatcher
    held: int = 0  # idle connections
    beside: bool = False  # run wrk, too


@dataclass
class Happened:
    """The events of a phase."""

    counts: dict[str, int] = field(default_factory=dict)
    kills: list[float] = field(default_factory=list)  # of workers: times by the monotonic clock
    gaps: list[float] = field(default_factory=list)  # seconds from a dispatcher's death to a new client's answer
    upgrades: list[subprocess.Popen[str]] = field(default_factory=list)
    exits: float | None = None  # seconds after which the server had exited


def _command(pid: int) -> bytes:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def dispatcher_of(ward: Ward) -> int:
    """The process number of the dispatcher; 0 if there is none at the moment."""
    return next((pid for pid in _mains(ward) if _role(pid) == "fdpass-dispatch"), 0)


def _mains(ward: Ward) -> list[int]:
    """The keeper's children that are no workers: the dispatcher, and templates."""
    found = [int(pid) for pid in Path(f"/proc/{ward.pid}/task/{ward.pid}/children").read_text().split()]
    return [pid for pid in found if b"\0fdpass\0serve\0" in _command(pid)]


def _role(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def workers_of(ward: Ward) -> list[int]:
    """The process numbers of all workers, in whatever state."""
    return [pid for pid in ward.server.members if b"\0fdpass.serve.worker\0" in _command(pid)]


# Events. A further kind of event is one more function here, and a phase in PHASES


def _kill_dispatcher(ward: Ward, happened: Happened, _: random.Random) -> bool:
    if not (pid := dispatcher_of(ward)):
        return False
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    happened.gaps.append(answered_after(ward.server.port, began))
    return True


def _kill_in_turns(ward: Ward, happened: Happened, chance: random.Random) -> bool:
    """Kill the dispatcher, and the next time the keeper, once the server is whole again."""
    keeper = ward.pid
    if happened.counts.get(TURNS, 0) % 2 == 0:
        return _kill_dispatcher(ward, happened, chance)
    began = time.monotonic()
    os.kill(keeper, signal.SIGKILL)
    while not (found := [pid for pid in ward.server.members if pid != keeper and _role(pid) == "fdpass-keeper"]):
        if time.monotonic() > began + PATIENCE:
            return False
        time.sleep(LOOK)
    ward.keeper = found[0]
    happened.gaps.append(answered_after(ward.server.port, began))
    return True


def _kill_worker(ward: Ward, happened: Happened, chance: random.Random) -> bool:
    """Kill a worker that serves, unless it is the last one; now and then any that starts or retires."""
    with suppress(FdpassError, OSError):  # there is no dispatcher at the moment
        ready = {each["pid"] for each in ward.status()["workers"] if each["state"] == "ready"}
        others = [pid for pid in workers_of(ward) if pid not in ready]
        pids = others if others and chance.random() < OTHERS else sorted(ready) if len(ready) > 1 else []
        if pids:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
            happened.kills.append(time.monotonic())
            return True
    return False


def _reload(ward: Ward, _: Happened, __: random.Random) -> bool:
    ward.reload()
    return True


def _upgrade(ward: Ward, happened: Happened, _: random.Random) -> bool:
    """Upgrade to the same code, by the command; each third one with exec."""
    if happened.upgrades and happened.upgrades[-1].poll() is None:
        return False
    words = [sys.executable, "-m", "fdpass", "upgrade", "--dispatcher-only", "--control", ward.control]
    words += ["--exec"] if len(happened.upgrades) % 3 == 2 else []
    happened.upgrades.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    return True


def _outcomes(upgrades: list[subprocess.Popen[str]]) -> Row:
    """What the upgrades have printed: milliseconds without accepting, of each kind, and failures."""
    found: Row = {"dispatcher": [], "exec": [], "failed": []}
    for each in upgrades:
        said, _ = each.communicate(timeout=SETTLED * 3)
        if each.returncode:
            found["failed"].append(said.strip())
        elif made := re.search(r"([\d.e+]+) ms without accepting", said):
            found["exec" if "keeper and dispatcher" in said else "dispatcher"].append(float(made[1]))
    return found


Event = Callable[[Ward, Happened, random.Random], bool]
TURNS = "dispatcher and keeper in turns"
EVENTS: dict[str, tuple[Event, float]] = {  # with the seconds between two, as a multiple of `Weather.every`
    "dispatcher": (_kill_dispatcher, 1.0),
    "workers": (_kill_worker, 1.0),
    "reloads": (_reload, 10.0),
    "upgrades": (_upgrade, 4.0),
    TURNS: (_kill_in_turns, 1.0),
}
QUIET = "dispatcher, no load"
PHASES = (
    QUIET,
    "dispatcher",
    "dispatcher and workers",
    "dispatcher, workers and reloads",
    "upgrades",
    "dispatcher, workers, reloads and upgrades",
    TURNS,
)


def answered_after(port: int, began: float) -> float:
    """Connect, and return how many seconds after ``began`` the first byte of an answer has come."""
    with suppress(OSError), socket.create_connection((HOST, port), PATIENCE) as sock:
        sock.sendall(PROBE)
        if sock.recv(1):
            return time.monotonic() - began
    return float("inf")


def _rage(ward: Ward, phase: str, weather: Weather, chance: random.Random) -> Happened:
    """Let the events of a phase happen, until its time is over or the server has exited."""
    happened, began = Happened(), time.monotonic()

    def next_time(of: str) -> float:
        return time.monotonic() + EVENTS[of][1] * weather.every * chance.uniform(1 - SPREAD, 1 + SPREAD)

    due = {name: next_time(name) for name in ([TURNS] if phase == TURNS else EVENTS) if name in phase}
    while (now := time.monotonic()) < began + weather.seconds:
        if not ward.alive:
            happened.exits = now - began
            break
        name = min(due, key=lambda each: due[each])
        if due[name] > now:
            time.sleep(min(due[name] - now, REST))
            continue
        happens = EVENTS[name][0](ward, happened, chance)
        happened.counts[name] = happened.counts.get(name, 0) + happens
        due[name] = next_time(name) if happens else time.monotonic() + REST
    return happened


def _descriptors(ward: Ward) -> int:
    return len(os.listdir(f"/proc/{ward.pid}/fd"))


def _left_over(ward: Ward, descriptors: int, processes: int) -> tuple[int, int]:
    """How many more descriptors and processes there are than before, once what has to end has ended."""
    deadline = time.monotonic() + PATIENCE
    while True:
        more = _descriptors(ward) - descriptors, len(ward.server.members) - processes
        if more <= (0, 0) or time.monotonic() > deadline:
            return more
        time.sleep(REST)


def phase_of(ward: Ward, phase: str, weather: Weather) -> Row:
    """One phase, with clients of its own."""
    before, port, chance = ward.told(), ward.server.port, random.Random(f"{weather.seed} {phase}")
    descriptors, processes = _descriptors(ward), len(ward.server.members)
    with ExitStack() as stack:
        idle = stack.enter_context(held_by(hold, port, weather.held, "127.0.2"))
        idle.ask()  # a connection without a first request would be closed after a while
        (kept, brief), of_posts = ((0, 0), (0, 0)) if phase == QUIET else ((KEPT, BRIEF), POSTS)
        gets = stack.enter_context(storming(Storm(port, kept, brief, seed=weather.seed)))
        posts = stack.enter_context(storming(Storm(port, *of_posts, post=True, seed=weather.seed)))
        said = stack.enter_context(wrk(port, weather.seconds)) if weather.beside else None
        happened = _rage(ward, phase, weather, chance)
        upgraded = _outcomes(happened.upgrades)
        tolls = gets.stop(), posts.stop()
        alive = ward.alive
        asked, lost = idle.ask() if alive and weather.held else ({}, {})
    if alive:
        ward.wait_settled(SETTLED)
    processes += len(_mains(ward)) - 1 if alive else 0  # a template stays after an upgrade
    more = _left_over(ward, descriptors, processes) if alive else (0, 0)
    return {
        "server": ward.name,
        "phase": phase,
        **_of_clients(tolls, happened),
        "post": executed(ward.file, tolls[1], happened.kills),
        "held": {"answered": sum(asked.values()), "failed": weather.held - sum(asked.values()), "how": dict(lost)},
        "events": happened.counts,
        "gap": {"median": median(happened.gaps), "worst": max(happened.gaps)} if happened.gaps else None,
        "upgrades": upgraded,
        "exits": happened.exits,
        "descriptors": [descriptors, descriptors + more[0]],
        "processes": [processes, processes + more[1]],
        "books": books(ward.told(), before) if alive else None,
        "wrk": of_wrk(said[0]) if said else None,
    }


def _of_clients(tolls: tuple[Toll, Toll], happened: Happened) -> Row:
    """The counts of both kinds of clients. What POST has a right to is in ``post``."""
    gets, posts = tolls
    # The clients that keep their connection have the numbers below POSTS[0].
    given_up = sum(each.kind in GIVEN_UP and int(each.token[:3]) < POSTS[0] for each in posts.failures)
    return {
        "requests": gets.requests,
        "failed": dict(gets.kinds),
        "once": sum(kills_met(failure, happened.kills) < 2 for failure in gets.failures),
        "reconnects": gets.reconnects,
        "posts": posts.requests,
        "posts failed": dict(posts.kinds),
        "posts reconnects": max(0, posts.reconnects - given_up),
        "p50": gets.p50,
        "p99": gets.p99,
        "worst": gets.worst,
    }


def lines(row: Row) -> Iterator[str]:
    """What kill_storm.py prints of a phase."""
    events = ", ".join(f"{count} {name}" for name, count in row["events"].items())
    yield (
        f"  {row['phase']}: {events}; {row['requests']} GET, {row['posts']} POST; "
        f"failed: {sum(row['failed'].values())} GET {row['failed'] or ''}, {row['posts failed'] or 'no POST'}; "
        f"{row['reconnects']} reconnects"
    )
    yield (
        f"    p50 {row['p50'] * 1e3:.1f} ms, p99 {row['p99'] * 1e3:.0f} ms, worst {row['worst'] * 1e3:.0f} ms; "
        "descriptors {} before, {} after; processes {} and {}".format(*row["descriptors"], *row["processes"])
    )
    for kind in ("dispatcher", "exec"):
        if times := row["upgrades"][kind]:
            yield (
                f"    {len(times)} upgrades ({kind}): without accepting for {median(times):.0f} ms (median), "
                f"{max(times):.0f} ms (worst)"
            )
    for said in row["upgrades"]["failed"]:
        yield f"    AN UPGRADE FAILED: {said}"
    if gap := row["gap"]:
        yield f"    gap in accepting: median {gap['median'] * 1e3:.0f} ms, worst {gap['worst'] * 1e3:.0f} ms"
    if failed := sum(row["failed"].values()):
        yield f"    {row['once']} of {failed} failed GET met fewer than two kills of workers"
    held = row["held"]
    yield f"    held: {held['answered']} answered, {held['failed']} failed {held['how'] or ''}"
    if counted := row["books"]:
        yield f"    the server: {counted}"
    if found := row["wrk"]:
        yield f"    wrk: {found['requests']} requests; {found['said'] or 'no errors'}"
    yield "    POST: " + ", ".join(f"{count} {what}" for what, count in row["post"].items())
    if row["exits"] is not None:
        yield f"    EXITS after {row['exits']:.1f} s"


def faults(row: Row) -> Row:
    """The counts in a row that must be 0."""
    post, counted = row["post"], row["books"]
    found = {
        "server gone": int(row["exits"] is not None),
        "errors of GET": sum(row["failed"].values()),
        "reconnects": row["reconnects"],
        "reconnects of POST": row["posts reconnects"],
        "upgrades failed": len(row["upgrades"]["failed"]),
        "held connections lost": row["held"]["failed"],
        "descriptors left over": max(0, row["descriptors"][1] - row["descriptors"][0]),
        "processes left over": max(0, row["processes"][1] - row["processes"][0]),
        "books that do not agree": int(not (counted and counted["agree"])),
    }
    names = ("answered but not executed", "executed twice", "given up, no kill in between", "other failures")
    found |= {f"POST {name}": post[name] for name in names}
    if counted:
        told = counted["answered_502"] + counted["cut"]
        found["POST given up, beyond what the server tells"] = max(0, post["given up"] - told)
    if said := row["wrk"]:
        found["errors of wrk"] = said["socket errors"] + said["not 2xx"]
    return found
