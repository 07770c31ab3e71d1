"""The phases of live_storm.py: workers are killed, or the server reloads."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from _live_claims import KINDS, Toll, delivered, faults
from _live_clients import Storm, storming
from _storm_servers import Rage, Ward, rage

PHASES = ("kill", "reload")
PAUSES = (0.2, 1.0)  # seconds between the end of a reload and the next
LONGEST = 60.0  # seconds that a reload may take on a busy machine
SETTLED = 1.5  # seconds for all clients to connect
COUNTED = ("moved", "replayed", "resumed", "told_to_reconnect", "answered_502", "cut", "lost")
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    seconds: float
    seed: int
    address: int | str | None = None  # of another listener than that of TCP
    proxy: bool = False
    scale: float = 1.0
    rest: float = 0.1


def reloading(ward: Ward, seconds: float, chance: random.Random) -> Rage:
    """Reload again and again, each time when the workers before have gone: else nobody moved in between."""
    done, deadline = Rage(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = ward.status()["server"]["generation"]
        ward.reload()
        ward.wait(partial(_is_after, before), "the workers before have gone", LONGEST)
        done.reloads += 1
        time.sleep(chance.uniform(*PAUSES))
    return done


def _is_after(generation: int, told: Row) -> bool:
    serving = told["server"]["generation"] > generation
    return serving and all(each["generation"] > generation for each in told["workers"])


def phase_of(ward: Ward, phase: str, plan: Plan) -> Row:
    """One phase, with clients of its own."""
    chance = random.Random(f"{plan.seed} {phase}")
    address = plan.address or ward.server.port
    with storming(Storm(address, plan.proxy, plan.scale, plan.rest, plan.seed)) as clients:
        rage(ward, SETTLED, "", chance, 1)
        before = ward.told()["connections"]
        done = (
            reloading(ward, plan.seconds, chance)
            if phase == "reload"
            else rage(ward, plan.seconds, phase, chance, 1)
        )
        tolls: dict[str, Toll] = clients.stop()
    ward.wait_settled()
    now = ward.told()["connections"]
    deliveries = delivered(ward.file)
    found = {
        kind: vars(toll) | {"disconnects": dict(toll.disconnects), "deliveries": dict(deliveries.get(kind, {}))}
        for kind, toll in tolls.items()
    }
    wrong = {
        kind: faults(kind, toll, deliveries.get(kind, {}), deaths="kill" in phase) for kind, toll in tolls.items()
    }
    return {
        "phase": phase,
        "kills": len(done.kills),
        "reloads": done.reloads,
        "exits": done.exits,
        "kinds": found,
        "faults": {kind: {what: count for what, count in each.items() if count} for kind, each in wrong.items()},
        "server": {name: now[name] - before[name] for name in COUNTED},
        "agree": now["accepted"] == now["finished"] + now["live"] + now["lost"],
    }


NAMES = ("messages", "lost", "twice", "order", "wrong", "1012", "reset", "other", "delivered", "twice", "not")
WIDTHS = (10, 6, 7, 7, 7, 6, 7, 7, 11, 7, 5)
HEADER = " " * 26 + "".join(f"{name:>{width}}" for name, width in zip(NAMES, WIDTHS, strict=True))


def lines(row: Row) -> Iterator[str]:
    yield f"  {row['phase']}: {row['kills']} kills, {row['reloads']} reloads"
    sums = [0] * len(WIDTHS)
    for kind in KINDS:
        found = row["kinds"][kind]
        ends, there = found["disconnects"], found["deliveries"]
        others = {name: count for name, count in ends.items() if name not in {"1012", "reset"}}
        counts = [
            *(found[name] for name in ("messages", "lost", "twice", "disordered", "wrong")),
            *(ends.get("1012", 0), ends.get("reset", 0), sum(others.values())),
            *(there.get(name, 0) for name in ("deliveries", "delivered twice", "not delivered")),
        ]
        sums = [each + count for each, count in zip(sums, counts, strict=True)]
        yield _line(kind, counts) + "".join(f"  {count} {name}" for name, count in others.items())
        for what, count in row["faults"][kind].items():
            yield f"      BROKEN ({KINDS[kind].claim}): {count} {what}"
    yield _line("all", sums)
    yield f"    the slowest answer took {max(found['slowest'] for found in row['kinds'].values()):.1f} s"
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in row["server"].items())
    yield f"    the server: {told}; accepted = finished + live + lost: {'yes' if row['agree'] else 'NO'}"


def _line(name: str, counts: list[int]) -> str:
    return f"    {name:22}" + "".join(f"{count:{width}}" for count, width in zip(counts, WIDTHS, strict=True))
