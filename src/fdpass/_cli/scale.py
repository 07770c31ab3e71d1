"""``fdpass scale``: more workers, or fewer."""

from __future__ import annotations

import click

from fdpass._cli.server import control_option
from fdpass.serve.operator.client import ask


@click.command()
@click.argument("workers", type=click.IntRange(min=1), metavar="N")
@control_option
def scale(workers: int, control: str) -> None:
    """Let a running server have N workers; wait until they are ready, or have been told to go."""
    answer = ask(control, "scale", workers=workers)
    click.echo(f"{answer['workers']} workers")
