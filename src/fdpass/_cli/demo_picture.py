"""The live picture of `fdpass demo serve`: figures, workers with connections, events."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fdpass._cli.demo_show import Show

_STYLES = {"starting": "yellow", "ready": "green", "retiring": "cyan"}


def picture(show: Show) -> RenderableType:
    """Draw the present state."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("worker", "generation", "state", "handled", "connections"):
        table.add_column(name, justify="right" if name in {"worker", "generation", "handled"} else "left")
    for worker in show.status["workers"]:
        table.add_row(*_row(worker))
    clock = f"{max(0.0, show.end - time.monotonic()):4.1f} s left   kills {show.kills}   reloads {show.reloads}"
    events = (Text(event, "dim") for event in show.events)
    return Group(Text(clock, "dim"), Text(), _figures(show), Text(), table, Text(), *events)


def _figures(show: Show) -> Table:
    """What the clients of each server have seen, a column each."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("what clients see")
    for side in show.sides:
        table.add_column(side.name, justify="right")
    styles = ["bold red" if side.wrong or side.reconnects else "bold green" for side in show.sides]
    table.add_row("requests answered", *(f"{side.requests:,}" for side in show.sides))
    for label, name in (("connections lost", "reconnects"), ("errors", "wrong")):
        cells = zip(show.sides, styles, strict=True)
        table.add_row(label, *(Text(f"{getattr(side, name):,}", style) for side, style in cells))
    table.add_row("longest wait", *(f"{side.worst * 1000:.0f} ms" for side in show.sides))
    return table


def _row(worker: dict[str, Any]) -> list[RenderableType]:
    style = _STYLES.get(worker["state"], "")
    return [
        str(worker["pid"]),
        str(worker["generation"]),
        Text(worker["state"], style),
        f"{worker['handled']:,}",
        Text("●" * worker["connections"], style),
    ]
