"""``fdpass list``: all running servers of this user."""

from __future__ import annotations

import json

import click

from fdpass._cli.streams import echo, printable
from fdpass._words import counted
from fdpass.serve.operator.servers import running


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list, for programs.")
def list(as_json: bool) -> None:  # noqa: A001 - the name of the verb
    """Show the running servers of this user, or for root of all users, each with the path of its control socket.

    It finds the processes that have the shared memory of a server, and asks each of them at its control socket.
    """
    found = running()
    if as_json:
        echo(json.dumps([{"control": path, **status["server"]} for path, status in found]))
        return
    for path, status in found:
        server, workers = status["server"], len(status["workers"])
        addresses = ", ".join(server["listeners"])
        words = f"{server['app']} at {addresses}, {counted(workers, 'worker')}: {path}"
        echo(f"{server['pid']} {printable(words)}")
    if not found:
        echo("no server runs")
