"""``fdpass workers``: replace single workers of a running server."""

from __future__ import annotations

import click

from fdpass._cli.progress import waiting
from fdpass._cli.server import control_option
from fdpass._cli.streams import echo
from fdpass.serve.operator.client import ask


@click.group()
def workers() -> None:
    """Replace single workers of a running server."""


@workers.command()
@click.argument("pid", type=click.IntRange(min=1))
@control_option
def retire(pid: int, control: str) -> None:
    """Replace the worker PID: start another one, then make this one finish and exit; wait until it has exited."""
    with waiting(f"waiting until worker {pid} has exited"):
        ask(control, "retire", pid=pid)
    echo(f"worker {pid} has retired")
