"""What clients of WebSockets and event streams notice while workers are killed, and while the server reloads.

    python benchmarks/live_storm.py storm [--seconds 30] [--loop both] [--unix] [--proxy] [--phases kill,reload]
    python benchmarks/live_storm.py mass [--connections 1500]

Each takes `--json`, and exits with 1 if a guarantee is broken. README.md says what is measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from _live_claims import KINDS
from _live_held import mass
from _live_phases import HEADER, PHASES, Plan, lines, phase_of
from _storm_idle import most
from _storm_servers import OURS, suffering
from kill_storm import LOOPS, PATIENT, facts_of, goal_lines

APP = "_live_app"
RESUME = ("--resume", "/live")
EVENTS = ("kill", "reload", "kill")
Row = dict[str, Any]


class Storms:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.rows: list[Row] = []
        self.goals: list[Row] = []

    def say(self, *lines: str) -> None:
        print(*lines, sep="\n", file=sys.stderr if self.options.json else sys.stdout, flush=True)

    def goal(self, name: str, wrong: str) -> None:
        self.goals.append({"name": name, "reached": not wrong, "told": wrong})

    @property
    def loops(self) -> tuple[str, ...]:
        return LOOPS if self.options.loop == "both" else (self.options.loop,)

    def storm(self) -> None:
        options = self.options
        more = [*(["--bind", "unix:{folder}/sock"] if options.unix else []), *RESUME]
        more += ["--proxy-protocol"] if options.proxy else []
        self.say(HEADER)
        for loop in self.loops:
            self.say(", ".join([loop, "Unix" if options.unix else "TCP", *(["PROXY"] if options.proxy else [])]))
            for phase in options.phases.split(","):
                spare = options.spare if "kill" in phase else 0  # a reload starts as many more
                with suffering(
                    OURS, options.workers, spare, "--loop", loop, *more, app=APP, asked=not options.proxy
                ) as ward:
                    address = f"{ward.control.removesuffix('ctl')}sock" if options.unix else ward.server.port
                    plan = Plan(
                        options.seconds, options.seed, address, options.proxy, options.scale, options.rest / 1e3
                    )
                    row = phase_of(ward, phase, plan)
                self.rows.append(row | {"loop": loop})
                self.say(*lines(row))
                self.of_storm(f"{loop}, {phase}", row)

    def of_storm(self, name: str, row: Row) -> None:
        for claim in dict.fromkeys(kind.claim for kind in KINDS.values()):
            wrong = [
                f"{kind}: {count} {what}"
                for kind, each in KINDS.items()
                for what, count in row["faults"][kind].items()
                if each.claim == claim
            ]
            self.goal(
                f"{name}: {claim}{'' if 'kill' in row['phase'] else ', and no disconnect'}", "; ".join(wrong)
            )
        self.goal(
            f"{name}: the server stays, and its counts agree",
            "" if row["agree"] and row["exits"] is None else "no",
        )
        if not (row["server"]["resumed"] or row["exits"]):
            self.goal(f"{name}: connections are resumed", "none was")

    def mass(self) -> None:
        count = most(self.options.connections)
        for loop in self.loops:
            for path in ("plain", "live"):
                with suffering(OURS, 1, 1, "--loop", loop, *PATIENT, *RESUME, app=APP) as ward:
                    for row in mass(ward, count, path, EVENTS if path == "live" else ()):
                        self.rows.append(row | {"loop": loop})
                        self.of_mass(loop, count, row)

    def of_mass(self, loop: str, count: int, row: Row) -> None:
        name = (
            f"{loop}, {row['connections']} WebSockets {'resumable' if row['path'] == 'live' else 'not resumable'}"
        )
        if row["event"] == "hold":
            sizes = ", ".join(f"{row[each] / 1024:.1f} KiB {each}" for each in ("PSS", "private", "shared"))
            self.say(f"{name}: {sizes}, for each")
            return
        moved = f"elsewhere in {row['seconds']:.2f} s; " if "seconds" in row else ""
        self.say(
            f"{name}, {row['event']}: {moved}all {row['answered']} answered in {row['all answered']:.2f} s; "
            f"{row['resumed']} resumed; failed: {row['failed']}"
        )
        wrong = {
            "failed": sum(row["failed"].values()),
            "answered by the old": row["by the old"],
            "opened anew": row["new"],
            "not answered": count - row["answered"],
        }
        self.goal(f"{name}, {row['event']}", ", ".join(f"{each} {what}" for what, each in wrong.items() if each))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("storm", "mass"))
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of each phase")
    parser.add_argument("--phases", default=",".join(PHASES), help="phases of storm, with commas between")
    parser.add_argument("--loop", choices=(*LOOPS, "both"), default="both", help="event loop of fdpass")
    parser.add_argument("--unix", action="store_true", help="connect over a Unix socket")
    parser.add_argument("--proxy", action="store_true", help="begin each connection with a PROXY header")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--spare", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="of 200 WebSockets and 80 event streams")
    parser.add_argument("--rest", type=float, default=100.0, help="mean pause in ms between a client's messages")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=1500, help="WebSockets of mass")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.phases.split(",")) - {*PHASES, "kill and reload"}:
        parser.error(f"no such phases: {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = arguments()
    storms = Storms(options)
    facts = facts_of(options)
    storms.say(facts)
    act: Callable[[], None] = getattr(storms, options.what)
    act()
    storms.say("", "Guarantees:", *goal_lines(storms.goals))
    if options.json:
        print(json.dumps({"on": facts, "rows": storms.rows, "goals": storms.goals}, indent=1))
    sys.exit(any(not goal["reached"] for goal in storms.goals))


if __name__ == "__main__":
    main()
