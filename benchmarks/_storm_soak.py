"""The soak of kill_storm.py: kills, reloads and scaling by a seed; then all figures must be as before."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from _serve_processes import pss
from _storm_clients import Storm, storming
from _storm_phases import kills_met
from _storm_servers import Ward, children

from fdpass.errors import FdpassError
from fdpass.serve.operator.client import ask

EVENTS = ("kill", "kill", "kill", "reload", "scale", "retire")
PAUSES = (0.1, 0.6)  # seconds between two events
MOST = 5  # workers that `scale` asks for
LINGER = 3.0  # seconds: a client that got a 502 may take two of them to leave
WARM = 5.0  # seconds of the same events before the first measurement, so that it includes what is made only once
GROWTH, LEAST = 1.1, 4e6  # memory may grow by this factor, or by this many bytes
Row = dict[str, Any]


def _measured(ward: Ward) -> Row:
    """Figures without load: the dispatcher's descriptors by kind and memory in bytes; workers and connections."""
    kinds, shared = Counter[str](), 0
    folder = Path(f"/proc/{ward.pid}/fd")
    for entry in os.listdir(folder):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            target = os.readlink(folder / entry)
            kinds[target.partition(":[")[0].removesuffix(" (deleted)")] += 1
            if target.startswith("/memfd:"):
                shared += os.stat(folder / entry).st_blocks * 512
    status = Path(f"/proc/{ward.pid}/status").read_text()
    rss = next(line.split() for line in status.splitlines() if line.startswith("RssAnon:"))
    told = ward.status()
    return {
        "descriptors": sum(kinds.values()),
        "kinds": dict(sorted(kinds.items())),
        "private memory": 1024 * int(rss[1]),
        "PSS": pss(ward.pid),
        "shared memory": shared,
        "children": len(children(ward.pid)),
        "workers": len(told["workers"]),
        "slots in use": told["connections"]["live"],
        "books": told["connections"],
    }


def _asked(ward: Ward, verb: str, **arguments: Any) -> None:
    """Send a command, and do not wait for the outcome: the next event may come before it."""

    def wait() -> None:
        with suppress(FdpassError):
            ask(ward.control, verb, **arguments)

    threading.Thread(target=wait, daemon=True).start()


def _happen(ward: Ward, event: str, chance: random.Random) -> bool:
    if event == "reload":
        ward.reload()
    elif event == "scale":
        _asked(ward, "scale", workers=chance.randint(1, MOST))
    elif pids := ward.victims(0):
        _asked(ward, "retire", pid=chance.choice(pids))
    return True


def _mixed(ward: Ward, seconds: float, chance: random.Random) -> tuple[Counter[str], list[float]]:
    """Cause events for ``seconds``: how many of each kind, and the times of the kills."""
    happened, kills, deadline = Counter[str](), list[float](), time.monotonic() + seconds
    while time.monotonic() < deadline and ward.alive:
        event = chance.choice(EVENTS)
        if event != "kill":
            happened[event] += _happen(ward, event, chance)
        elif when := ward.kill_one(chance):
            kills.append(when)
        time.sleep(chance.uniform(*PAUSES))
    return happened + Counter(kill=len(kills)), kills


def _round(ward: Ward, seconds: float, seed: int, workers: int) -> Row:
    """Events under load; then the first number of workers again, and no load."""
    with storming(Storm(ward.server.port, seed=seed)) as clients:
        happened, kills = _mixed(ward, seconds, random.Random(seed))
        toll = clients.stop()
    ask(ward.control, "scale", workers=workers)
    ward.wait_settled()
    time.sleep(LINGER)
    return {
        "events": dict(happened),
        "requests": toll.requests,
        "failed": dict(toll.kinds),
        "once": sum(kills_met(failure, kills) < 2 for failure in toll.failures),
        "reconnects": toll.reconnects,
        **_measured(ward),
    }


def soak(ward: Ward, minutes: float, seed: int, workers: int) -> Iterator[Row]:
    """A row for each minute; the first is measured at the beginning."""
    yield {"minutes": 0.0, **_round(ward, WARM, seed, workers)}
    done = 0.0
    while done < minutes:
        step = min(1.0, minutes - done)
        done += step
        yield {"minutes": done, **_round(ward, 60 * step, seed + 1 + round(done * 60), workers)}


def line(row: Row) -> str:
    events = " ".join(f"{count} {event}" for event, count in sorted(row["events"].items()))
    failed = ", ".join(f"{count} {kind}" for kind, count in row["failed"].items())
    return (
        f"  {row['minutes']:6.1f} min{row['requests']:10} requests{row['descriptors']:6} descriptors"
        f"{row['private memory'] / 1e6:8.2f} MB{row['PSS'] / 1e6:8.2f} MB PSS"
        f"{row['shared memory'] / 1e6:8.2f} MB shared"
        f"{row['slots in use']:4} slots{row['children']:4} children  {events}"
        + (f"  FAILED: {failed}; {row['once']} of them met fewer than two kills" if failed else "")
    )


def faults(first: Row, last: Row) -> Row:
    """The figures that differ from the beginning, and by how much."""
    found = {
        name: abs(last[name] - first[name]) for name in ("descriptors", "children", "workers", "slots in use")
    }
    for name in ("private memory", "PSS", "shared memory"):
        found[name] = max(0, last[name] - round(max(first[name] * GROWTH, first[name] + LEAST)))
    return found
