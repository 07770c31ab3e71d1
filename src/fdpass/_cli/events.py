"""``fdpass events``: the last events of a running server, and those to come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from fdpass._cli.server import control_option
from fdpass._cli.streams import echo, printable
from fdpass.errors import FdpassError
from fdpass.serve.operator.client import ask, only_path

_WAIT = 20  # seconds, after which the server replies that there is none


@click.command(
    epilog="""Examples:

\b
  fdpass events
  fdpass events --follow --json | jq 'select(.level == "error")'"""
)
@control_option
@click.option("--follow", "-f", is_flag=True, help="Go on with each event that comes, until the server's end.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a JSON object on a line of its own.")
def events(control: str, follow: bool, as_json: bool) -> None:
    """Show the last 200 events of a running server: the lines of its log from the level info on."""
    for event in _events(control, follow=follow):
        echo(json.dumps(event, ensure_ascii=False) if as_json else line(event))


def _events(control: str, *, follow: bool) -> Iterator[dict[str, Any]]:
    control = control or only_path()
    reply = ask(control, "events")
    yield from reply["events"]
    while follow:
        try:
            reply = ask(control, "events", after=reply["last"], wait=_WAIT)
        except FdpassError:  # the server has ended
            return
        yield from reply["events"]


def line(event: dict[str, Any]) -> str:
    """Write an event as its line in the log."""
    first, *more = event["message"].splitlines() or [""]
    time = event["time"].replace("T", " ").partition(".")[0]
    return "\n".join([f"{time} {event['level']}: {printable(first)}", *map(printable, more)])
