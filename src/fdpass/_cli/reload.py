"""``fdpass reload``: a new generation of workers, and the outcome."""

from __future__ import annotations

import click

from fdpass._cli.server import control_option
from fdpass.serve.operator.client import ask


@click.command()
@control_option
def reload(control: str) -> None:
    """Let a running server start its code anew: settings, certificates and application.

    A new generation of workers is started. Once all of them are ready the old ones retire. If they do not start,
    the old ones go on serving, and this command says why, and fails.
    """
    answer = ask(control, "reload")
    click.echo(f"generation {answer['generation']} serves")
