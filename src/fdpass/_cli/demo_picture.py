"""The live picture of `fdpass demo serve`: workers with their connections, totals, and the newest events."""

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
    wrong = sum(show.errors.values())
    style = "bold red" if wrong or show.reconnects else "bold green"
    totals = Text.assemble(
        (f"{max(0.0, show.end - time.monotonic()):4.1f} s left   ", "dim"),
        f"requests {show.requests:,}   kills {show.kills}   reloads {show.reloads}   ",
        (f"reconnects {show.reconnects}   errors {wrong}", style),
    )
    return Group(totals, Text(), table, Text(), *(Text(event, "dim") for event in show.events))


def _row(worker: dict[str, Any]) -> list[RenderableType]:
    style = _STYLES.get(worker["state"], "")
    return [
        str(worker["pid"]),
        str(worker["generation"]),
        Text(worker["state"], style),
        f"{worker['handled']:,}",
        Text("●" * worker["connections"], style),
    ]
