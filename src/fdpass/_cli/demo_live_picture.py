"""The live picture of `fdpass demo live`: its connections, the workers, and the newest events."""

from __future__ import annotations

import time

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fdpass._cli.demo_live_show import LiveShow, Stream

_STYLES = {"starting": "yellow", "ready": "green", "retiring": "cyan"}


def picture(show: LiveShow) -> RenderableType:
    """Draw the present state."""
    title = Text.assemble(
        "The page: ",
        (show.url, "bold underline"),
        (f"   {max(0.0, show.end - time.monotonic()):.0f} s left", "dim"),
    )
    totals = Text(f"kills {show.kills}   reloads {show.reloads}   Ctrl-C ends the demonstration", "dim")
    events = Group(*(Text(event, "dim") for event in show.events))
    return Group(title, Text(), _streams(show), Text(), _workers(show), Text(), totals, Text(), events)


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index else "left")
    return table


def _streams(show: LiveShow) -> Table:
    table = _table("connection", "count", "worker", "resumed", "lost or twice", "broken")
    for stream in show.streams:
        table.add_row(*_row(stream))
    return table


def _row(stream: Stream) -> list[RenderableType]:
    figures = [
        Text(str(figure), "bold red" if figure else "bold green") for figure in (stream.wrong, stream.broken)
    ]
    return [stream.name, Text(str(stream.count), "bold"), str(stream.pid or "-"), str(stream.resumed), *figures]


def _workers(show: LiveShow) -> Table:
    table = _table("worker", "generation", "connections", "state")
    for worker in show.status["workers"]:
        state = Text(worker["state"], _STYLES.get(worker["state"], ""))
        table.add_row(str(worker["pid"]), str(worker["generation"]), str(worker["connections"]), state)
    return table
