"""What serving costs: `fdpass serve` against uvicorn, gunicorn, hypercorn, granian and a Node.js cluster.

    python benchmarks/serve.py [--rounds 9] [--seconds 1] [--workers 2] [--only TEXT] [--servers a,b] [--json]

All servers have the same application, number of workers and clients, and take turns; ratios are taken within a
round. README.md says what is measured, and how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TextIO

from _serve_events import under_load
from _serve_handoff import all_compared
from _serve_held import alone
from _serve_load import TALKS, measured
from _serve_processes import APP, COMMANDS, Server, missing, running
from _serve_report import ALONE, EVENTS, HANDOFF, LOADS, OURS, Row, Rows, goal_line, goals, handoff_line, table

CLIENTS = 32
WARMUP = 0.3  # seconds
APPS = {"fastapi": "_instructions_api:app"}
ROUNDS_ALONE = 3  # rounds of the measurements that need a fresh server; they vary little


def loaded(server: Server, kind: str, seconds: float) -> Row:
    found = measured(
        port=server.port,
        seconds=seconds,
        busy=CLIENTS,
        talk=TALKS[kind],
        warmup=WARMUP,
        watched=tuple(server.members),
    )
    if not found.requests:
        raise RuntimeError(f"no answer was right: {dict(found.failed)}")
    return {
        "rate": found.requests / found.seconds,
        "p50": found.p50,
        "p99": found.p99,
        "cpu": sum(found.cpu.values()) / found.requests * 1e6,
        "clients": found.own_cpu / found.requests * 1e6,
        "failed": found.failed.total(),
    }


class Benchmark:
    def __init__(self, options: argparse.Namespace, out: TextIO) -> None:
        self.options, self.out = options, out
        self.names: list[str] = []
        self.results: dict[str, Rows] = {}
        self.handoffs: list[Row] = []

    def say(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self.out, flush=True)

    def look_for_servers(self) -> None:
        for name in self.options.servers.split(",") if self.options.servers else COMMANDS:
            if reason := missing(name):
                self.say(f"{name} is skipped: {reason}")
            else:
                self.names.append(name)

    def wanted(self, *kinds: str) -> tuple[str, ...]:
        return tuple(kind for kind in kinds if self.options.only in kind)

    def in_turns(self, rounds: int, act: Callable[[str], dict[str, Row]]) -> None:
        """Each round begins with another server, every second one goes backwards; a failed server is left out."""
        names, found = list(self.names), dict[str, Rows]()
        for turn in range(rounds):
            first = turn % max(1, len(names))
            order = names[first:] + names[:first]
            for name in order[::-1] if turn % 2 else order:
                try:
                    rows = act(name)
                except (OSError, RuntimeError) as error:
                    self.say(f"{name} FAILED, and is left out of the next table: {error}")
                    names.remove(name)
                    continue
                for kind, row in rows.items():
                    found.setdefault(kind, {}).setdefault(name, []).append(row)
        for kind, by_name in found.items():
            self.results[kind] = {name: by_name[name] for name in names}
            self.say("", *table(kind, self.results[kind]))

    def under_loads(self, kinds: tuple[str, ...]) -> None:
        """All servers run and one has load: so a round is short, and a noisy machine changes little within it."""
        servers = dict[tuple[str, str], Server]()
        with ExitStack() as stack:
            for kind in kinds:
                app = APPS.get(kind, APP)

                def act(name: str, kind: str = kind, app: str = app) -> dict[str, Row]:
                    if (name, app) not in servers:
                        servers[name, app] = stack.enter_context(running(name, self.options.workers, app=app))
                    return {kind: loaded(servers[name, app], kind, self.options.seconds)}

                self.in_turns(self.options.rounds, act)

    def one_by_one(self, kinds: tuple[str, ...]) -> None:
        def act(name: str) -> dict[str, Row]:
            with running(name, self.options.workers) as server:
                return alone(server, self.options.seconds, kinds)

        self.in_turns(min(ROUNDS_ALONE, self.options.rounds), act)

    def through(self, kind: str) -> None:
        def act(name: str) -> dict[str, Row]:
            with running(name, self.options.workers) as server:
                return {kind: under_load(server, kind)}

        self.in_turns(1, act)

    def handoff(self) -> None:
        if OURS not in self.names:
            return
        self.say("", f"{HANDOFF}, connection per request: CPU of the dispatcher for each, and its ratio")
        try:
            for row in all_compared(self.options.rounds, self.options.seconds):
                self.handoffs.append(row)
                self.say(handoff_line(row))
        except (OSError, RuntimeError) as error:
            self.say(f"  FAILED: {error}")

    def run(self) -> None:
        self.look_for_servers()
        if kinds := self.wanted(*LOADS):
            self.under_loads(kinds)
        if kinds := self.wanted(*ALONE):
            self.one_by_one(kinds)
        for kind in self.wanted(*EVENTS):
            self.through(kind)
        if self.wanted(HANDOFF):
            self.handoff()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="seconds of load in each measurement")
    parser.add_argument("--workers", type=int, default=2)
    kinds = ", ".join((*LOADS, *ALONE, *EVENTS, HANDOFF))
    parser.add_argument("--only", default="", help=f"only measurements with this text in their names: {kinds}")
    parser.add_argument("--servers", default="", help=f"only these servers: {', '.join(COMMANDS)}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(filter(None, options.servers.split(","))) - set(COMMANDS):
        parser.error(f"no such servers: {', '.join(sorted(unknown))}")
    return options


def facts(options: argparse.Namespace) -> Iterator[str]:
    yield f"Python {platform.python_version()}, Linux {platform.release()}"
    yield f"{len(os.sched_getaffinity(0))} processors"
    yield f"{options.workers} workers, {CLIENTS} clients, {options.rounds} rounds"


def main() -> None:
    options = arguments()
    benchmark = Benchmark(options, sys.stderr if options.json else sys.stdout)
    benchmark.say("; ".join(facts(options)))
    benchmark.run()
    reached: list[dict[str, Any]] = list(goals(benchmark.results, benchmark.handoffs))
    if reached:
        benchmark.say("", "Goals, of the median ratio:", *map(goal_line, reached))
    if options.json:
        told = {"results": benchmark.results, "handoff": benchmark.handoffs, "goals": reached}
        print(json.dumps({"on": "; ".join(facts(options)), **told}, indent=1))


if __name__ == "__main__":
    main()
