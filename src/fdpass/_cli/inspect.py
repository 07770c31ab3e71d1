"""``fdpass inspect``: list the descriptors of a process as a table, grouped by kind, or as JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json

import click

from fdpass import _proc as proc
from fdpass._cli.streams import echo, printable
from fdpass._words import counted

_HEADINGS = ("KIND", "FD", "MODE", "IN FLIGHT", "WHAT")
_ORDER = ("listener", "socket", "file", "dir", "memfd", "pipe", "char", "block")  # other kinds follow, by name


@click.command(
    epilog="""Examples:

\b
  fdpass inspect 1234
  fdpass inspect 1234 --json | jq '.descriptors[] | select(.close_on_exec | not)'"""
)
@click.argument("pid", type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def inspect(pid: int, as_json: bool) -> None:
    """List the descriptors of process PID by kind, with the addresses of sockets.

    IN FLIGHT is the number of descriptors that wait in a Unix socket's queue: sent, and not received yet. MODE is
    r, w, rw or path (opened with O_PATH).

    You need the right to trace PID: the same user, unless a security module forbids it, or root.
    """
    name, found = proc.name(pid), proc.descriptors(pid)
    if as_json:
        content = {
            "pid": pid,
            "name": name,
            "in_flight": _in_flight(found),
            "descriptors": [dataclasses.asdict(descriptor) for descriptor in found],
        }
        echo(json.dumps(content, indent=2))
        return
    echo(_title(pid, name, found))
    for line in _aligned(_rows(found)):
        echo(line)


def _in_flight(found: list[proc.Descriptor]) -> int:
    return sum(descriptor.in_flight or 0 for descriptor in found)


def _title(pid: int, name: str, found: list[proc.Descriptor]) -> str:
    count = counted(len(found), "descriptor")
    return f"process {pid} ({printable(name)}): {count}, {_in_flight(found)} in flight"


def _rows(found: list[proc.Descriptor]) -> list[tuple[str, ...]]:
    """Make a row for each descriptor; the first row of each kind names the kind."""
    rows: list[tuple[str, ...]] = []
    for kind, group in itertools.groupby(sorted(found, key=_sort_key), key=lambda one: one.kind):
        for index, one in enumerate(group):
            waiting = "" if one.in_flight is None else str(one.in_flight)
            rows.append(("" if index else kind, str(one.number), one.access, waiting, _what(one)))
    return rows


def _sort_key(one: proc.Descriptor) -> tuple[int, str, int]:
    rank = _ORDER.index(one.kind) if one.kind in _ORDER else len(_ORDER)
    return rank, one.kind, one.number


def _what(one: proc.Descriptor) -> str:
    if one.endpoint is None:
        return printable(one.target) + (f"  (at byte {one.position})" if one.position else "")
    end = one.endpoint
    words = [end.protocol]
    if end.protocol == "unix":
        words.append(end.type)
    if end.state != proc.AMBIGUOUS:
        words.append(end.local or "(unnamed)")
    if end.remote:
        words += ["->", end.remote]
    return printable(" ".join([*words, end.state]))


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Align heading and rows: numbers to the right, words to the left, without padding in the last column."""
    columns = list(zip(_HEADINGS, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for kind, number, access, waiting, what in zip(*columns, strict=True):
        cells = (
            kind.ljust(widths[0]),
            number.rjust(widths[1]),
            access.ljust(widths[2]),
            waiting.rjust(widths[3]),
        )
        lines.append("  ".join((*cells, what)))
    return [click.style(lines[0], bold=True), *lines[1:]]
