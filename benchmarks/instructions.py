"""How many user-space instructions a request costs `fdpass serve` and uvicorn, counted by callgrind.

    python benchmarks/instructions.py [--cases a,b] [--servers a,b] [--requests 300] [--functions]
                                      [--json FILE] [--compare FILE [--ratios]]

Counts repeat where times do not, so a small change shows. README.md says what is counted, and how to read it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from _instructions_compare import versions
from _instructions_load import CASES
from _instructions_measure import counted_row, traced_row
from _instructions_report import comparison, say, show_functions, show_grown, show_table
from _instructions_servers import ON, SERVERS, Counted, UnderCallgrind, UnderTrace, counted
from _serve_processes import missing

Row = dict[str, Any]
Results = dict[str, dict[str, Row]]  # by case, by server


def by_app(cases: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The cases of each application: a server runs one."""
    for app in dict.fromkeys(CASES[case].app for case in cases):
        if app.startswith("_instructions_api") and importlib.util.find_spec("fastapi") is None:
            say("fastapi is skipped: no module fastapi")
        else:
            yield app, [case for case in cases if CASES[case].app == app]


def installed(servers: list[str]) -> Iterator[str]:
    for name in servers:
        if reason := missing(name):
            say(f"{name} is skipped: {reason}")
        else:
            yield name


def measured(
    servers: list[str], cases: list[str], kind: type[Counted], measure: Callable[[Counted, str], Row]
) -> Results:
    results: Results = {}
    for app, some in by_app(cases):
        for name in servers:
            say(f"{name} {kind.about}: {', '.join(some)}")
            with counted(name, app, kind) as server:
                for case in some:
                    results.setdefault(case, {})[name] = measure(server, case)
    return results


def add_traces(results: Results, servers: list[str], requests: int) -> None:
    """Put the bytecodes of each process beside its instructions."""
    traces = measured(servers, [*results], UnderTrace, partial(traced_row, requests=requests))
    for case, rows in traces.items():
        for name, row in rows.items():
            for role, process in row.items():
                results[case][name][role].update(process)


def record(here: Row) -> str:
    """The result without the functions of other servers than fdpass: a comparison shows no others."""
    for servers in here["results"].values():
        for name, row in servers.items():
            for process in row.values():
                process.pop("calls", None)
                if name != ON:
                    process.pop("functions", None)
                    process.pop("python", None)
    return json.dumps(here, indent=1) + "\n"


def names(known: Iterable[str], what: str) -> Callable[[str], list[str]]:
    def chosen(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
        return text.split(",")

    return chosen


def positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text!r}")
    return int(text)


def new_file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: its folder does not exist, or it is a folder itself")
    return path


def recorded(text: str) -> Row:
    try:
        record: Row = json.loads(Path(text).read_text())
        record["versions"], record["results"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise argparse.ArgumentTypeError(f"{text} is not what --json wrote: {error}") from None
    return record


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = "\n".join(f"  {name:12}{case.about}" for name, case in CASES.items())
    parser.epilog = f"cases:\n{cases}\nservers:\n  {', '.join(SERVERS)}"
    only = "only these, with commas between"
    parser.add_argument("--cases", type=names(CASES, "cases"), default=[*CASES], help=only)
    parser.add_argument("--servers", type=names(SERVERS, "servers"), default=[*SERVERS], help=only)
    parser.add_argument("--requests", type=positive, default=300, help="in each round")
    parser.add_argument("--rounds", type=positive, default=3, help="the median counts")
    parser.add_argument(
        "--functions", action="store_true", help="print the C and the Python functions that cost most"
    )
    parser.add_argument("--json", metavar="FILE", type=new_file, help="write the result into this file")
    parser.add_argument(
        "--compare",
        metavar="FILE",
        type=recorded,
        help="exit with 1 if a figure of fdpass is more than 5 %% above the one in this file",
    )
    parser.add_argument(
        "--ratios",
        action="store_true",
        help="if versions differ, compare the ratios to uvicorn instead of nothing",
    )
    options = parser.parse_args()
    if options.ratios and not options.compare:
        parser.error("--ratios goes with --compare")
    return options


def run(options: argparse.Namespace) -> int:
    here: Row = {"versions": versions(), "requests": options.requests, "rounds": options.rounds}
    servers = list(installed(options.servers))
    measure = partial(counted_row, requests=options.requests, rounds=options.rounds)
    results = here["results"] = measured(servers, options.cases, UnderCallgrind, measure)
    show_table(results)
    risen = comparison(options.compare, here, by_ratio=options.ratios) if options.compare else []
    if options.functions:
        add_traces(results, servers, options.requests)
        show_functions(results)
    elif (options.json or risen) and ON in servers:
        add_traces(results, [ON], options.requests)
    for one in risen:
        show_grown(options.compare, here, one)
    if options.json:
        options.json.write_text(record(here))
    return 1 if risen else 0


def main() -> int:
    options = arguments()
    if shutil.which("valgrind") is None:
        say("The program valgrind, which counts the instructions, is not installed: apt-get install valgrind")
        return 1
    try:
        return run(options)
    except RuntimeError as error:
        say(f"FAILED: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
