"""The figures of a server in 80 columns: a line for each that is not zero, and a table of workers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fdpass._cli.streams import printable

WIDTH = 80
"""Columns where standard output is no terminal. The table of workers is not wider."""

_INDENT = 13
_MOST_LINES = 3  # of the reason of a failed start

STYLES = {"starting": "yellow", "ready": "green", "retiring": "cyan"}
"""How the states of workers are shown."""


def picture(status: Mapping[str, Any], selected: int = 0) -> RenderableType:
    """Make the picture.

    Args:
        status: The figures: see docs/watching.md.
        selected: The process number of the worker to highlight.
    """
    lines = Text("\n".join(wrapped(label, parts) for label, parts in _lines(status) if parts))
    if failure := status["starts"].get("failure"):  # an older server does not tell it
        lines.append(f"\n{_failure(failure)}", "red")
    return Group(_head(status["server"]), lines, _workers(status["workers"], selected))


def _head(server: Mapping[str, Any]) -> Text:
    return Text.assemble(
        (f"{server['app']}", "bold"),
        f" at {', '.join(server['listeners'])}\n",
        f"fdpass {server['version']}, {_main(server)}, generation {server['generation']}",
        f", up {duration(server['uptime'])}",
        (", stopping", "bold red") if server["stopping"] else "",
    )


def _main(server: Mapping[str, Any]) -> str:
    pid, dispatcher = server["pid"], server["dispatcher"]
    return f"dispatcher {pid}" if pid == dispatcher else f"keeper {pid}, dispatcher {dispatcher}"


def _lines(status: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
    requests, recent, waits = status["requests"], status["recent"], status["waits"]
    bounds, connections = requests["latency"]["bounds"], status["connections"]
    rate = f"{number(recent['handled'] / (recent['seconds'] or 1.0))}/s"
    yield (
        "requests",
        [rate, *_within(recent["latency"], bounds), *not_zero({"in progress": requests["in_progress"]})],
    )
    yield "responses", [f"{name} {number(count)}" for name, count in requests["responses"].items() if count]
    yield "connections", not_zero({"live": connections["live"], **connections}) or ["none yet"]
    yield "bytes", not_zero(status.get("bytes", {}), size)
    yield "backlog", [_backlog(listener) for listener in status["listeners"] if listener["backlog"]]
    yield "handoffs", _within(status["handoffs"]["latency"]["counts"], bounds)
    if waits["count"]:
        yield "waits", [f"{number(waits['count'])} for room", duration(waits["seconds"]) + _now(waits["waiting"])]
    yield "deaths", not_zero(status["deaths"])
    starts = {name: status["starts"][name] for name in ("failed", "restarts")}
    yield "starts", not_zero(starts)
    yield "reloads", not_zero({name: int(count) for name, count in status["reloads"].items()})


def _failure(reason: str) -> str:
    """Write why the newest start failed, in lines of `WIDTH`."""
    return textwrap.fill(
        printable(reason),
        WIDTH,
        initial_indent=f"{'last failure':<{_INDENT}}",
        subsequent_indent=" " * _INDENT,
        max_lines=_MOST_LINES,
        placeholder=" ...",
    )


def _now(waiting: bool) -> str:
    return ", waiting now" if waiting else ""


def _backlog(listener: Mapping[str, Any]) -> str:
    return f"{number(listener['backlog'])} of {number(listener['backlog_max'])} at {listener['address']}"


def _within(counts: Sequence[int], bounds: Sequence[float]) -> list[str]:
    """The durations within which half and 99 % of the responses were: the upper bounds of their buckets."""
    if not sum(counts):
        return []
    half, most = (milliseconds(quantile(counts, bounds, share)) for share in (0.5, 0.99))
    return [f"half within {half}", f"99 % within {most}"]


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float:
    """Return the upper bound in seconds of the bucket in which a share of all durations is reached."""
    left = share * sum(counts)
    for count, bound in zip(counts, bounds, strict=False):
        left -= count
        if left <= 0:
            return bound
    return float("inf")


def _workers(workers: Sequence[Mapping[str, Any]], selected: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("worker", "gen"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("connections", "requests", "handled", "req/s", "lag ms", "MiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for worker in workers:
        table.add_row(
            str(worker["pid"]),
            str(worker["generation"]),
            Text(worker["state"], STYLES.get(worker["state"], "")),
            number(worker["connections"]),
            number(worker["requests"]),
            number(worker["handled"]),
            number(worker["rate"]),
            number(worker["lag_ms"], digits=1),
            number(worker["rss"] / 2**20),
            style="reverse" if worker["pid"] == selected else "",
        )
    return table


def not_zero(counts: Mapping[str, int], shown: Callable[[float], str] | None = None) -> list[str]:
    """Return counts with their names, without zeros."""
    show = shown or number
    return [f"{show(count)} {name.replace('_', ' ')}" for name, count in counts.items() if count]


def wrapped(label: str, parts: Iterable[str]) -> str:
    """Write a label, and behind it parts with commas between, in lines of `WIDTH` that break between parts."""
    lines = [f"{label:<{_INDENT}}"]
    comma = ""
    for part in parts:
        if comma and len(lines[-1]) + len(part) + 2 >= WIDTH:
            lines[-1] += ","
            lines.append(" " * _INDENT + part)
        else:
            lines[-1] += comma + part
        comma = ", "
    return "\n".join(lines)


def number(value: float, digits: int = 0) -> str:
    """Write a number in at most 7 characters: ``1,234``, ``12.3 M``."""
    for limit, unit, factor in ((10**6, "", 1), (10**9, " M", 10**6), (10**12, " G", 10**9)):
        if value < limit:
            return f"{value / factor:,.{1 if unit else digits}f}{unit}"
    return f"{value / 10**12:,.1f} T"


def size(value: float) -> str:
    """Write a number of bytes: ``12 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.{0 if unit == 'B' else 1}f} {unit}"
        value /= 1024
    return f"{value:,.1f} TiB"


def milliseconds(seconds: float) -> str:
    """Write a duration in ms, or in s from one second on."""
    if seconds == float("inf"):
        return "more than 105 s"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def duration(seconds: float) -> str:
    """Write a duration with its two greatest units: ``5 s``, ``3 min 5 s``, ``2 d 4 h``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count or first == 3)
