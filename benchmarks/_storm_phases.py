"""The phases of kill_storm.py: load while workers are killed and the server reloads. POST is for fdpass only.

A row is one phase of one server. A row of fdpass also has the server's own counts, and whether they agree.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _serve_processes import HOST
from _storm_clients import GIVEN_UP, Failure, Storm, Toll, storming
from _storm_servers import OURS, Rage, Ward, rage

PHASES = ("kill", "reload", "kill and reload")
COUNTED = ("moved", "replayed", "answered_502", "cut", "lost")
WRK_CLIENTS = 8
WRK_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
WRK_OTHERS = re.compile(r"Non-2xx or 3xx responses: (\d+)")
WRK_REQUESTS = re.compile(r"(\d+) requests in")
Row = dict[str, Any]


def books(told: dict[str, Any], before: dict[str, Any]) -> Row:
    """What the server counted since `before`, and whether accepted = finished + live + lost."""
    now, then = told["connections"], before["connections"]
    counted: Row = {name: now[name] - then[name] for name in COUNTED}
    counted["agree"] = now["accepted"] == now["finished"] + now["live"] + now["lost"] and now["live"] == 0
    return counted


def of_wrk(output: str) -> Row:
    """The totals that wrk prints."""
    requests, errors = WRK_REQUESTS.search(output), WRK_ERRORS.search(output)
    others = WRK_OTHERS.search(output)
    if requests is None:
        raise RuntimeError(f"wrk says nothing of requests: {output[-200:]!r}")
    return {
        "requests": int(requests[1]),
        "socket errors": sum(map(int, errors.groups())) if errors else 0,
        "not 2xx": int(others[1]) if others else 0,
        "said": " ".join(match[0] for match in (errors, others) if match),
    }


@contextmanager
def wrk(port: int, seconds: float) -> Iterator[list[str]]:
    """Run wrk, an independent client; when it has ended, its output is in the list."""
    said = list[str]()
    words = ["wrk", "-t", "1", "-c", str(WRK_CLIENTS), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s"]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*words, f"http://{HOST}:{port}/t/wrk-8-0"], stdout=output, stderr=output)
        try:
            yield said
            process.wait(30)
            output.seek(0)
            said.append(output.read())
        finally:
            process.kill()
            process.wait()


def kills_met(failure: Failure, kills: list[float]) -> int:
    return sum(failure.began <= kill <= failure.ended for kill in kills)


def row_of(ward: Ward, phase: str, toll: Toll, done: Rage) -> Row:
    return {
        "server": ward.name,
        "phase": phase,
        "requests": toll.requests,
        "failed": dict(toll.kinds),
        "reconnects": toll.reconnects,
        "p50": toll.p50,
        "p99": toll.p99,
        "worst": toll.worst,
        "once": sum(kills_met(failure, done.kills) < 2 for failure in toll.failures),
        "kills": len(done.kills),
        "reloads": done.reloads,
        "exits": done.exits,
    }


@dataclass(frozen=True)
class Plan:
    seconds: float
    seed: int
    left: int = 1  # ready workers that a kill leaves
    rest: float = 0.0  # seconds; see Storm
    post: bool = False
    beside: bool = False  # run wrk, too


def phase_of(ward: Ward, phase: str, plan: Plan) -> Row:
    """One phase, with clients of its own."""
    ours, chance = ward.name == OURS, random.Random(f"{plan.seed} {phase}")
    before = ward.told() if ours else {}
    with ExitStack() as stack:
        clients = stack.enter_context(
            storming(Storm(ward.server.port, post=plan.post, seed=plan.seed, rest=plan.rest))
        )
        said = stack.enter_context(wrk(ward.server.port, plan.seconds)) if plan.beside else None
        done = rage(ward, plan.seconds, phase, chance, plan.left)
        toll = clients.stop()
    row = row_of(ward, phase, toll, done)
    if ours:
        ward.wait_settled()
        row["books"] = books(ward.told(), before)
    if said is not None:
        row["wrk"] = of_wrk(said[0])
    if plan.post:
        row["post"] = executed(ward.file, toll, done.kills)
    return row


def executed(file: Path, toll: Toll, kills: list[float]) -> Row:
    """Compare the answered requests with those executed, and the others with the kills."""
    count = Counter(file.read_text().split()) if file.exists() else Counter[str]()
    file.unlink(missing_ok=True)
    given_up = [failure for failure in toll.failures if failure.kind in GIVEN_UP]
    return {
        "answered": len(toll.answered),
        "answered but not executed": sum(count[token] == 0 for token in toll.answered),
        "executed twice": sum(times > 1 for times in count.values()),
        "given up": len(given_up),
        "given up, no kill in between": sum(not kills_met(one, kills) for one in given_up),
        "given up, executed": sum(count[one.token] > 0 for one in given_up),
        "other failures": len(toll.failures) - len(given_up),
    }


def have_wrk() -> bool:
    return shutil.which("wrk") is not None


HEADER = (
    f"{'requests':>29}{'failed':>8}{'reconn.':>9}"
    f"{'p50 ms':>8}{'p99 ms':>8}{'worst ms':>10}{'kills':>7}{'reloads':>9}"
)


def lines(row: Row) -> Iterator[str]:
    failed, exits = sum(row["failed"].values()), row["exits"]
    how = ", ".join(f"{count} {kind}" for kind, count in sorted(row["failed"].items()))
    yield (
        f"  {row['phase']:16}{row['requests']:11}{failed:8}{row['reconnects']:9}"
        f"{row['p50'] * 1e3:8.1f}{row['p99'] * 1e3:8.0f}{row['worst'] * 1e3:10.0f}"
        f"{row['kills']:7}{row['reloads']:9}"
        + (f"  {how}" if how else "")
        + (f"; {row['once']} of them met fewer than two kills" if how and row["server"] == OURS else "")
        + (f"  EXITS after {exits:.1f} s" if exits is not None else "")
    )
    if counted := row.get("books"):
        told = ", ".join(f"{counted[name]} {name.replace('_', ' ')}" for name in COUNTED)
        yield f"    the server: {told}; accepted = finished + live + lost: {'yes' if counted['agree'] else 'NO'}"
    if found := row.get("wrk"):
        yield f"    wrk: {found['requests']} requests; {found['said'] or 'no errors'}"
    if found := row.get("post"):
        yield "    " + ", ".join(f"{count} {what}" for what, count in found.items())


def faults(row: Row) -> Row:
    """The counts in a row of fdpass that must be 0."""
    failed, counted = sum(row["failed"].values()), row["books"]
    found = {"server gone": int(row["exits"] is not None), "books that do not agree": int(not counted["agree"])}
    if said := row.get("wrk"):
        found["errors of wrk"] = said["socket errors"] + said["not 2xx"]
    if post := row.get("post"):
        names = ("answered but not executed", "executed twice", "given up, no kill in between", "other failures")
        found |= {name: post[name] for name in names}
        found["given up, beyond what the server tells"] = max(
            0, post["given up"] - counted["answered_502"] - counted["cut"]
        )
        return found
    met = {"errors of requests that met fewer than two kills": row["once"]}
    return found | met | {"errors": failed, "reconnects": row["reconnects"]}
