"""``fdpass status``: the connections and workers of a running server, as a table or as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from fdpass._cli.common import Failure
from fdpass._cli.server import control_option
from fdpass._cli.streams import echo
from fdpass.serve.operator.client import ask


@click.command(
    epilog="""Examples:

\b
  fdpass status
  fdpass status --json | jq .connections
  fdpass status --control /run/shop.sock"""
)
@control_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def status(control: str, as_json: bool) -> None:
    """Show the listeners, connections and workers of a running server.

    Connections: accepted = finished + live + lost, at all times. "handed" counts handoffs to workers, "rehanded"
    the handoffs of connections that another worker had before. The other figures count the connections of workers
    that died or retired, by what the dispatcher did with them.
    """
    status = ask(control, "status")
    if as_json:
        echo(json.dumps(status))
    else:
        _show(status)


def _show(status: dict[str, Any]) -> None:
    try:
        from rich.console import Console  # noqa: PLC0415 - --json needs none of it
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ImportError as error:
        raise Failure("the table needs rich: pip install 'fdpass[serve]', or use --json") from error
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    server, connections = status["server"], status["connections"]
    console.print(
        Text.assemble(
            (f"{server['app']}", "bold"),
            f" at {', '.join(server['listeners'])}\n",
            f"fdpass {server['version']}, dispatcher {server['pid']}, generation {server['generation']}",
            ", stopping" if server["stopping"] else "",
        )
    )
    console.print(Text("connections: " + ", ".join(f"{count:,} {name}" for name, count in connections.items())))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("worker", justify="right")
    table.add_column("gen", justify="right")
    table.add_column("state")
    for name in ("connections", "requests", "handled", "lag ms", "MiB"):
        table.add_column(name, justify="right")
    styles = {"starting": "yellow", "ready": "green", "retiring": "cyan"}
    for worker in status["workers"]:
        table.add_row(
            str(worker["pid"]),
            str(worker["generation"]),
            Text(worker["state"], styles.get(worker["state"], "")),
            f"{worker['connections']:,}",
            f"{worker['requests']:,}",
            f"{worker['handled']:,}",
            f"{worker['lag_ms']:.1f}",
            f"{worker['rss'] / 2**20:.0f}",
        )
    console.print(table)
