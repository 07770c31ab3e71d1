"""``fdpass reload``: start a new generation of workers, and report the outcome."""

from __future__ import annotations

import click

from fdpass._cli.progress import waiting
from fdpass._cli.server import control_option
from fdpass._cli.streams import echo
from fdpass.serve.operator.client import ask


@click.command()
@control_option
def reload(control: str) -> None:
    """Replace the workers of a running server: they read settings, certificates and application again.

    The server starts a new generation of workers, and the old workers retire once all new ones are ready. If the
    new ones do not start, the old ones keep serving; this command prints the reason, and exits with 1.
    """
    with waiting("waiting until the new workers are ready"):
        reply = ask(control, "reload")
    echo(f"generation {reply['generation']} serves")
