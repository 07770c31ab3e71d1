"""The tables of instructions.py, and what it says of a comparison."""

from __future__ import annotations

import sys
from typing import Any

from _instructions_compare import RISE, Comparison, compared, differences, grown, instructions
from _instructions_servers import DISPATCHER, OFF, ON, OTHER, WORKER
from rich import box
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]
SHOWN = 20  # functions of each process


def say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def console() -> Console:
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=120)


def thousands(count: float | None) -> str:
    return "" if count is None else f"{count / 1e3:.1f}"


def show_table(results: dict[str, dict[str, Row]]) -> None:
    table = Table(title="thousands of instructions a request", box=box.SIMPLE, title_justify="left")
    for column in ("case", "server"):
        table.add_column(column, no_wrap=True)
    for column in ("all", "worker", "dispatcher", "spread", "/ uvicorn", "/ custody off"):
        table.add_column(column, justify="right", no_wrap=True)
    for case, servers in results.items():
        for number, (name, row) in enumerate(servers.items()):
            parts = [row[role]["instructions"] if role in row else None for role in (WORKER, DISPATCHER)]
            table.add_row(
                "" if number else case,
                name,
                thousands(instructions(row)),
                *map(thousands, parts),
                f"{max(process['spread'] for process in row.values()):.2%}",
                ratio(servers, name, OTHER),
                ratio(servers, name, OFF) if name == ON else "",
            )
        table.add_section()
    console().print(table)


def ratio(servers: dict[str, Row], name: str, other: str) -> str:
    if name == other or other not in servers:
        return ""
    return f"{instructions(servers[name]) / instructions(servers[other]):.3f}"


def show_functions(results: dict[str, dict[str, Row]]) -> None:
    for case, servers in results.items():
        for name, row in servers.items():
            for role, process in row.items():
                title = f"{case}, {name}, {role}"
                show_costliest(
                    f"{title}: instructions", "C function", process["functions"], process["instructions"]
                )
                if "python" in process:
                    title = f"{title}: bytecodes, of {process['bytecodes']}"
                    calls = process["calls"]
                    show_costliest(title, "Python function", process["python"], process["bytecodes"], calls)


def show_costliest(
    title: str, what: str, functions: dict[str, int], whole: float, calls: dict[str, float] | None = None
) -> None:
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for column in ("each", "%", *(("calls",) if calls else ())):
        table.add_column(column, justify="right")
    table.add_column(f"{what}, without its callees", no_wrap=True)
    for function, count in list(functions.items())[:SHOWN]:
        row = [str(count), f"{count / whole:.1%}", *((str(calls[function]),) if calls else ())]
        table.add_row(*row, function)
    console().print(table, markup=False)


def comparison(recorded: Row, here: Row, *, by_ratio: bool) -> list[Comparison]:
    """Print the comparison. Returns those figures that have risen too much."""
    differing = differences(recorded, here, [*here["results"]])
    if differing:
        say(f"The recorded figures do not hold here: {'; '.join(differing)}.")
        if not by_ratio:
            say("Nothing is compared; --ratios compares the ratios to uvicorn.")
            return []
    found = list(compared(recorded, here, by_ratio=bool(differing)))
    if not found:
        say(f"Nothing is compared: no figure{', with that of uvicorn,' if differing else ''} is in both results.")
    for one in found:
        say(line(one, ratios=bool(differing)))
    return [one for one in found if one.risen]


def line(one: Comparison, *, ratios: bool) -> str:
    before, now = (
        f"{figure:.3f} of uvicorn's" if ratios else f"{figure / 1e3:.1f} thousand"
        for figure in (one.before, one.now)
    )
    verdict = f"MORE THAN {RISE - 1:.0%} ABOVE" if one.risen else "in order"
    return f"  {one.case}, {one.server}: {before} recorded, {now} here ({one.rise - 1:+.1%}): {verdict}"


def show_grown(recorded: Row, here: Row, one: Comparison) -> None:
    for kind, unit in (("functions", "instructions"), ("python", "bytecodes")):
        say(f"{one.case}, {one.server}: functions that use more {unit}")
        for role, function, before, now in grown(recorded, here, one, kind):
            say(f"  {role}: {function}: {before:.0f} recorded, {now:.0f} here")
