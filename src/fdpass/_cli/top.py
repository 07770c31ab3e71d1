"""``fdpass top``: a running server live in the terminal, with keys for what an operator does."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from fdpass._cli.common import Failure
from fdpass._cli.server import control_option
from fdpass._cli.signals import stop_on
from fdpass.serve.operator.client import ask, only_path


@click.command()
@control_option
@click.option(
    "--every", type=click.FloatRange(0.1, 60), default=1.0, metavar="SECONDS", help="The time between two looks."
)
def top(control: str, every: float) -> None:
    """Show a running server live: its figures, its workers and its last events.

    Keys: r reloads; + and - change the number of workers; the arrows or j and k select a worker, and x replaces
    it; q ends the view. The server goes on.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Failure("it needs a terminal: without one, use fdpass status --watch, or fdpass events --follow")
    try:
        from fdpass._cli import top_screen  # noqa: PLC0415 - rich is not always installed
    except ImportError as error:
        raise Failure("it needs rich: pip install 'fdpass[serve]'") from error
    path = control or only_path()
    first: dict[str, Any] = ask(path, "status")
    stop_on(signal.SIGTERM, signal.SIGHUP)
    top_screen.show(path, first, every)
