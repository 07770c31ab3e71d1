"""``fdpass status``: the figures of a running server, once or again and again, for people or as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from fdpass._cli.common import Failure, seconds
from fdpass._cli.server import control_option
from fdpass._cli.streams import echo
from fdpass.errors import FdpassError
from fdpass.serve.operator.client import ask, only_path


@click.command(
    epilog="""Examples:

\b
  fdpass status
  fdpass status --watch
  fdpass status --json | jq .connections
  fdpass status --control /run/shop.sock"""
)
@control_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.option("--watch", is_flag=True, help="Show the figures again and again, until Ctrl-C or the server's end.")
@click.option(
    "--every", type=seconds, default="1", metavar="SECONDS", help="With --watch: the time between two looks."
)
def status(control: str, as_json: bool, watch: bool, every: float) -> None:
    """Show the listeners, requests, connections and workers of a running server.

    What is zero is not shown, except with --json. The requests a second, and the times within which half and 99 %
    of the responses were complete, are those of the last second or two. All other counts and times are those since
    the start of the server.

    Connections: accepted = finished + live + lost, at all times. "handed" counts handoffs to workers, "rehanded"
    the handoffs of connections that another worker had before. The other figures count the connections of workers
    that died or retired, by what the dispatcher did with them.

    Handoffs: how long connections waited for their worker. Waits: how often, and for how long, the dispatcher
    accepted nothing because no worker had room. Lag: how late a worker's event loop runs.
    """
    looks = _looks(control, every if watch else None)
    if as_json:
        for look in looks:
            echo(json.dumps(look))
    else:
        _show(looks, watch=watch)


def _looks(control: str, every: float | None) -> Iterator[dict[str, Any]]:
    """Ask for the figures, once or again and again until the server has ended."""
    control = control or only_path()
    yield ask(control, "status")
    while every is not None:
        time.sleep(every)
        try:
            look = ask(control, "status")
        except FdpassError:
            return
        yield look


def _show(looks: Iterator[dict[str, Any]], *, watch: bool) -> None:
    try:
        from rich.console import Console  # noqa: PLC0415 - --json needs none of it
        from rich.live import Live  # noqa: PLC0415

        from fdpass._cli.status_picture import WIDTH, picture  # noqa: PLC0415
    except ImportError as error:
        raise Failure("the table needs rich: pip install 'fdpass[serve]', or use --json") from error
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else WIDTH, highlight=False)
    if not (watch and is_terminal):
        for number, look in enumerate(looks):
            console.print(*([""] if number else []), picture(look), sep="\n")
        return
    with Live(console=console, auto_refresh=False) as live:
        for look in looks:
            live.update(picture(look), refresh=True)
