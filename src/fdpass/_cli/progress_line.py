"""The line that `progress` shows: rich's, with a cursor that stays visible, and silent in the background."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.control import Control
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from fdpass._cli.streams import in_background


class _Terminal(Console):
    def __init__(self) -> None:
        super().__init__(stderr=True)

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - rich's signature
        """Leave the cursor as it is: after Ctrl-Z or SIGKILL the shell would have none."""
        return False

    # After Ctrl-Z and ``bg`` the line is neither drawn nor removed: both would erase what the shell shows.

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, or draw the line again if there is nothing to print."""
        if not (all(isinstance(one, Control) for one in objects) and in_background()):
            super().print(*objects, **options)

    def line(self, count: int = 1) -> None:
        """End the line."""
        if not in_background():
            super().line(count)

    def control(self, *control: Control) -> None:
        """Move the cursor, or erase."""
        if not in_background():
            super().control(*control)


def line(text: str, total: int | None, *, of_bytes: bool) -> Progress:
    """Make the line: what is done and for how long, and how many of ``total`` bytes."""
    size = [BarColumn(), DownloadColumn(), TransferSpeedColumn()] if of_bytes else []
    description = TextColumn("{task.description}", markup=False)
    made = Progress(
        SpinnerColumn(),
        description,
        *size,
        TimeElapsedColumn(),
        console=_Terminal(),
        transient=True,
        redirect_stdout=False,
    )
    made.add_task(text, total=total)
    return made
