"""``fdpass scale``: change the number of workers."""

from __future__ import annotations

from typing import Any

import click

from fdpass._cli.progress import waiting
from fdpass._cli.server import control_option
from fdpass._cli.streams import echo
from fdpass._words import counted
from fdpass.serve.operator.client import ask


class _Number(click.IntRange):
    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if str(value).startswith("+"):
            self.fail(f"{value!r}: N is how many workers there shall be, not how many more", param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@click.argument("workers", type=_Number(min=1), metavar="N")
@control_option
def scale(workers: int, control: str) -> None:
    """Change the number of workers of a running server to N, and wait until N are ready.

    If there are too many workers, the ones with the least to finish retire.
    """
    with waiting(f"waiting until {workers} workers are ready"):
        reply = ask(control, "scale", workers=workers)
    echo(counted(reply["workers"], "worker"))
