"""What clients notice while workers of `fdpass serve` are killed and the server reloads again and again.

    python benchmarks/kill_storm.py storm [--seconds 20] [--servers fdpass,uvicorn] [--loop both] [--wrk]
    python benchmarks/kill_storm.py post | idle | cost | soak [--minutes 60]
    python benchmarks/kill_storm.py keeper [--seconds 20] [--every 0.5] [--held 10] [--loop both] [--wrk]
    python benchmarks/kill_storm.py keeper-cost [--rounds 9]

Each takes `--json`, and exits with 1 if a goal is missed that is no goal of speed. README.md says what is
measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from _serve_processes import Server, missing, pss, running
from _serve_report import load_table, ratio
from _storm_idle import all_moved, most
from _storm_keeper import PHASES as OF_KEEPER
from _storm_keeper import Weather
from _storm_keeper import faults as keeper_faults
from _storm_keeper import lines as keeper_lines
from _storm_keeper import phase_of as keeper_phase
from _storm_phases import HEADER, PHASES, Plan, faults, have_wrk, lines, phase_of
from _storm_servers import OURS, suffering
from _storm_soak import faults as soak_faults
from _storm_soak import line, soak
from serve import loaded

SERVERS = ("fdpass", "uvicorn", "gunicorn", "granian", "node")
WITHOUT = "custody off"
WHAT = ("storm", "post", "idle", "cost", "soak", "keeper", "keeper-cost")
ALL = ",".join(PHASES)
LOOPS = ("asyncio", "uvloop")
PATIENT = ("--keep-alive", "600")  # seconds: the server closes no idle connection during the measurement
REHOMED = 0.25  # seconds
Row = dict[str, Any]


class Storms:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows: list[Row] = []
        self.goals: list[Row] = []

    def say(self, *lines: str) -> None:
        print(*lines, sep="\n", file=sys.stderr if self.options.json else sys.stdout, flush=True)

    def goal(self, name: str, reached: bool, told: str = "", *, speed: bool = False) -> None:
        self.goals.append({"name": name, "reached": reached, "told": told, "speed": speed})

    def none(self, name: str, found: Row) -> None:
        """Add a goal: all of these counts are 0."""
        wrong = ", ".join(f"{count} {what}" for what, count in found.items() if count)
        self.goal(f"{name}: no {', no '.join(found)}", not wrong, wrong)

    @property
    def loops(self) -> tuple[str, ...]:
        return LOOPS if self.options.loop == "both" else (self.options.loop,)

    # Kills and reloads under load

    def one_server(self, name: str, loop: str, phases: tuple[str, ...], *, post: bool = False) -> None:
        """Run each phase on a fresh server, so that it does not depend on the phases before."""
        ours, options = name == OURS, self.options
        plan = Plan(options.seconds, options.seed, int(not options.last), options.rest / 1000, post, options.wrk)
        self.say(f"{name}{f', {loop}' if ours else ''}")
        for phase in phases:
            with suffering(name, options.workers, options.spare, *(("--loop", loop) if ours else ())) as ward:
                row = phase_of(ward, phase, plan)
            self.rows.append(row | {"loop": loop})
            self.say(*lines(row))
            if ours:
                self.none(f"{'POST, ' if post else ''}{loop}, {phase}", faults(row))

    def storm(self) -> None:
        self.say(HEADER)
        for name in self.options.servers.split(","):
            if reason := missing(name):
                self.say(f"{name} is skipped: {reason}")
                continue
            for loop in self.loops if name == OURS else ("",):
                try:
                    self.one_server(name, loop, tuple(self.options.phases.split(",")))
                except (OSError, RuntimeError) as error:
                    self.say(f"  FAILED: {error}")
                    if name == OURS:
                        self.goal(f"{name}, {loop}: runs to the end", False, str(error))

    def post(self) -> None:
        self.say(HEADER)
        for loop in self.loops:
            self.one_server(OURS, loop, tuple(self.options.phases.split(",")), post=True)

    # Idle connections

    def idle(self) -> None:
        options, count = self.options, most(self.options.connections)
        for loop in self.loops:
            with suffering(OURS, options.workers, options.spare, "--loop", loop, *PATIENT) as ward:
                for row in all_moved(ward, count):
                    self.rows.append(row | {"loop": loop})
                    self.of_idle(loop, count, row)

    def of_idle(self, loop: str, count: int, row: Row) -> None:
        name = f"{loop}, {row['event']} with {row['connections']} idle connections"
        told = f"re-homed in {row['seconds'] * 1e3:.0f} ms"
        if row["event"] == "reload":
            told += f" ({row['since asked'] * 1e3:.0f} ms since it was asked for)"
        self.say(f"{name}: {told}; {row['by others']} of {count} then answered by others; failed: {row['failed']}")
        counts = {"failed": sum(row["failed"].values()), "answered by the old": row["answered"] - row["by others"]}
        self.none(name, counts | {"reconnects": row["accepted"] - row["live"] - self.strangers()})
        self.goal(f"{name}: re-homed within {REHOMED * 1e3:.0f} ms", row["seconds"] <= REHOMED, told, speed=True)

    def strangers(self) -> int:
        """How many connections suffering() made to see that the server is ready."""
        first = next(one for one in self.rows if one["loop"] == self.rows[-1]["loop"])
        return int(first["accepted"] - first["live"])

    # The cost of custody

    def cost(self) -> None:
        options, found = self.options, dict[str, dict[str, list[Row]]]()
        with ExitStack() as stack:
            servers: dict[str, Server] = {}
            for name, words in ((OURS, ()), (WITHOUT, ("--custody", "off"))):
                servers[name] = stack.enter_context(running(OURS, options.workers, "--loop", "uvloop", *words))
            servers["uvicorn"] = stack.enter_context(running("uvicorn", options.workers))
            for kind in ("keep-alive", "connection per request"):
                found[kind] = {name: [] for name in servers}
                for turn in range(options.rounds):
                    for name in list(servers)[:: -1 if turn % 2 else 1]:
                        found[kind][name].append(loaded(servers[name], kind, options.round_seconds))
                self.say("", *load_table(kind, found[kind]))
        self.rows.append(found)
        for kind, other, goal in (
            ("keep-alive", WITHOUT, 1.05),
            ("connection per request", WITHOUT, 1.05),
            ("keep-alive", "uvicorn", 1.0),
        ):
            by = ratio(found[kind][OURS], found[kind][other], "cpu")
            told = "{ratio:.3f} ({least:.2f} to {greatest:.2f})".format(**by)
            self.goal(f"{kind}, CPU, {OURS} / {other}: at most {goal}", by["ratio"] <= goal, told, speed=True)
        failed = sum(row["failed"] for rows in found.values() for name in (OURS, WITHOUT) for row in rows[name])
        self.none("cost", {"errors": failed})

    # The keeper

    def keeper(self) -> None:
        options = self.options
        weather = Weather(options.seconds, options.seed, options.every, most(options.held), options.wrk)
        more = ("--log-level", "debug") if os.environ.get("STORM_LOG") else ()
        for loop in self.loops:
            self.say(f"{OURS} --keeper on, {loop}, {weather.held} idle connections held")
            for phase in OF_KEEPER if options.phases == ALL else options.phases.split("|"):
                words = ("--keeper", "on", "--orphan", "continue", "--loop", loop, *PATIENT, *more)
                with suffering(OURS, options.workers, options.spare, *words) as ward:
                    row = keeper_phase(ward, phase, weather)
                self.rows.append(row | {"loop": loop})
                self.say(*keeper_lines(row))
                self.none(f"{loop}, {phase}", keeper_faults(row))

    def keeper_cost(self) -> None:
        options, found, memory = self.options, dict[str, dict[str, list[Row]]](), dict[str, float]()
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(running(OURS, options.workers, "--loop", "uvloop", "--keeper", name))
                for name in ("on", "off")
            }
            for kind in ("keep-alive", "connection per request"):
                found[kind] = {name: [] for name in servers}
                for turn in range(options.rounds):
                    for name in list(servers)[:: -1 if turn % 2 else 1]:
                        found[kind][name].append(loaded(servers[name], kind, options.round_seconds))
                self.say("", *load_table(kind, found[kind]))
                by = ratio(found[kind]["on"], found[kind]["off"], "cpu")
                told = "{ratio:.3f} ({least:.2f} to {greatest:.2f})".format(**by)
                self.goal(f"{kind}, CPU, on / off: at most 1.02", by["ratio"] <= 1.02, told, speed=True)
            memory = {name: sum(map(pss, server.members)) / 1e6 for name, server in servers.items()}
        told = f"{memory['on']:.1f} MB against {memory['off']:.1f} MB"
        self.goal("memory: at most 8 MB more", memory["on"] - memory["off"] <= 8, told, speed=True)
        self.rows += [found, memory]
        each = (row["failed"] for rows in found.values() for some in rows.values() for row in some)
        self.none("keeper-cost", {"errors": sum(each)})

    # The soak

    def soak(self) -> None:
        options = self.options
        with suffering(OURS, options.workers, options.spare, "--loop", self.loops[-1]) as ward:
            for row in soak(ward, options.minutes, options.seed, options.workers):
                self.rows.append(row)
                self.say(line(row))
        self.none("soak, all returned to where it began", soak_faults(self.rows[0], self.rows[-1]))
        once = sum(row["once"] for row in self.rows)
        self.none("soak", {"errors of requests that met fewer than two kills": once})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--seconds", type=float, default=20.0, help="seconds of each phase of storm and post")
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes of soak")
    parser.add_argument(
        "--phases", default=ALL, help="phases of storm and post, with commas between; of keeper, with |"
    )
    parser.add_argument("--servers", default=OURS, help=f"servers of storm: {','.join(SERVERS)}")
    parser.add_argument("--loop", choices=(*LOOPS, "both"), default="both", help="event loop of fdpass")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spare", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rest", type=float, default=0.0, help="mean pause in ms between a client's requests")
    parser.add_argument("--last", action="store_true", help="kill a worker even if no other is ready")
    parser.add_argument("--wrk", action="store_true", help="run wrk in storm, too")
    parser.add_argument("--connections", type=int, default=10_000, help="connections of idle")
    parser.add_argument(
        "--every", type=float, default=0.5, help="seconds between two deaths of the dispatcher, in keeper"
    )
    parser.add_argument("--held", type=int, default=10, help="idle connections in keeper")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of cost")
    parser.add_argument("--round-seconds", type=float, default=1.0, help="seconds of load in a round of cost")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.what == "idle":
        options.workers = options.spare = 1  # so that one worker has all connections
    if unknown := set(options.servers.split(",")) - set(SERVERS):
        parser.error(f"no such servers: {', '.join(sorted(unknown))}")
    if options.what != "keeper" and (unknown := set(options.phases.split(",")) - set(PHASES)):
        parser.error(f"no such phases: {', '.join(sorted(unknown))}")
    if options.wrk and not have_wrk():
        parser.error("there is no wrk in PATH")
    if options.wrk and options.what not in {"storm", "keeper"}:
        parser.error("--wrk goes with storm and keeper")
    return options


def facts_of(options: argparse.Namespace) -> str:
    return (
        f"Python {platform.python_version()}, Linux {platform.release()}; {len(os.sched_getaffinity(0))} CPUs"
        f"; {options.workers} workers, {options.spare} spare; seed {options.seed}"
    )


def goal_lines(goals: list[Row]) -> Iterator[str]:
    for goal in goals:
        told = f" ({goal['told']})" if goal["told"] else ""
        yield f"  {goal['name']}: {'yes' if goal['reached'] else 'NO'}{told}"


def main() -> None:
    options = arguments()
    storms = Storms(options)
    facts = facts_of(options)
    storms.say(facts)
    act: Callable[[], None] = getattr(storms, options.what.replace("-", "_"))
    act()
    storms.say("", "Goals:", *goal_lines(storms.goals))
    if options.json:
        print(json.dumps({"on": facts, "rows": storms.rows, "goals": storms.goals}, indent=1))
    sys.exit(any(not goal["reached"] and not goal["speed"] for goal in storms.goals))


if __name__ == "__main__":
    main()
