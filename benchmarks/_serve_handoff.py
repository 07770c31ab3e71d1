"""Processor time of the dispatcher of `fdpass serve` for a connection: few or many held, few or many workers."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from _serve_held import Held, holding
from _serve_load import TALKS, Found, measured
from _serve_processes import Server, running

MANY = 20_000
SPARE = 500  # descriptors that the dispatcher needs besides those of held connections
FEW = 10
LOADS: dict[str, dict[str, Any]] = {
    "at ease": {"calm": 4, "pause": 0.003},  # most connections are passed one by one
    "in full": {"busy": 32},
}


@dataclass(frozen=True)
class Case:
    """A server with held streams, which serves other connections meanwhile."""

    workers: int
    server: Server
    held: Held

    @property
    def name(self) -> str:
        return f"{self.workers} workers, {self.held.per_worker.total()} held"

    def cost(self, seconds: float, load: str) -> tuple[float, Found]:
        """The dispatcher's processor time, in µs, for a connection that is opened, served once and closed."""
        main = self.server.process.pid
        found = measured(
            port=self.server.port,
            seconds=seconds,
            talk=TALKS["connection per request"],
            warmup=0.3,
            watched=(main,),
            **LOADS[load],
        )
        return found.cpu[main] / max(1, found.requests) * 1e6, found


@contextmanager
def case(workers: int, held: int) -> Iterator[Case]:
    with running("fdpass", workers, "--loop", "asyncio") as server, holding(server.port, held) as streams:
        yield Case(workers, server, streams)
        if (alive := streams.still_open()) < held:
            raise RuntimeError(f"of {held} held streams only {alive} were left")


def compared(pair: tuple[Case, Case], rounds: int, seconds: float, load: str) -> dict[str, Any]:
    """The cost in the second case, divided by the cost in the first; the two take turns."""
    costs: tuple[list[float], list[float]] = ([], [])
    rates: tuple[list[float], list[float]] = ([], [])
    failed = 0
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 else (1, 0):
            cost, found = pair[which].cost(seconds, load)
            costs[which].append(cost)
            rates[which].append(found.requests / found.seconds)
            failed += found.failed.total()
    ratios = [second / first for first, second in zip(*costs, strict=True)]
    return {
        "load": load,
        "cases": [one.name for one in pair],
        "cpu": [median(of) for of in costs],
        "rate": [median(of) for of in rates],
        "ratio": median(ratios),
        "least": min(ratios),
        "greatest": max(ratios),
        "failed": failed,
    }


def all_compared(rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    most = min(MANY, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE)
    with case(2, FEW) as base:
        for workers, held in ((2, most), (64, FEW)):
            with case(workers, held) as other:
                for load in LOADS:
                    yield compared((base, other), rounds, seconds, load)
