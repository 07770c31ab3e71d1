"""``fdpass keep list``, ``restart``, ``take`` and ``drop``: commands for a running ``fdpass keep``."""

from __future__ import annotations

import json
import shlex
from typing import Any

import click

from fdpass._cli.common import Deadline, Failure, copy_out, seconds
from fdpass._cli.progress import waiting
from fdpass._cli.run import run
from fdpass._cli.streams import echo, printable
from fdpass._keep.client import ask, connected
from fdpass._words import counted
from fdpass.errors import Timeout

control_option = click.option(
    "--control",
    default="",
    envvar="FDPASS_KEEP_CONTROL",
    metavar="PATH",
    help="Control socket, if it is not the default one.",
)

_HEADINGS = ("NAME", "KIND", "HELD", "WHAT")


@click.command("list")
@control_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def list_(control: str, as_json: bool) -> None:
    """Show the program, its listeners, and the descriptors that it has stored.

    HELD is "always" for a listener, "until end" for a descriptor that is removed once its peer has ended, and
    "stored" for one that is not (FDPOLL=0, or a kind that has no end).
    """
    with connected(control) as channel:
        reply, message = ask(channel, "list")
        message.close()
    if as_json:
        echo(json.dumps(reply))
        return
    echo(_title(reply))
    rows = [(each["name"], each["kind"], "always", each["what"]) for each in reply["listeners"]]
    rows += [
        (each["name"], each["kind"], "until end" if each["polled"] else "stored", each["what"])
        for each in reply["stored"]
    ]
    for line in _aligned([_HEADINGS, *(tuple(map(printable, row)) for row in rows)]):
        echo(line)


def _title(reply: dict[str, Any]) -> str:
    program, most = reply["program"], reply["keep"]["store_max"]
    where = "" if program["pid"] is None else f", process {program['pid']}"
    status = f": {program['status']}" if program["status"] else ""
    return printable(
        f"{shlex.join(program['command'])}{where}, {program['state']}{status}; "
        f"{counted(program['starts'], 'start')}; {len(reply['stored'])} of {counted(most, 'descriptor')} stored"
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]])
        for row in rows
    ]


@click.command()
@control_option
@click.option(
    "--timeout", type=seconds, metavar="SECONDS", help="Fail if the program has not started again in this time."
)
def restart(control: str, timeout: float | None) -> None:
    """Stop the program, and start it again with its listeners and stored descriptors.

    The program gets SIGTERM, and the time of --stop-timeout to end. This command waits until the new process has
    said READY=1; if the program never says that, until the process has run for a second. If the program does not
    start, the command prints the reason, and exits with 1; fdpass keep goes on as after any end of the program.
    """
    with connected(control) as channel, waiting("waiting until the program has started again"):
        channel.settimeout(Deadline(timeout).left())
        try:
            reply, message = ask(channel, "restart")
        except Timeout as error:
            raise Failure(f"the program has not started again within {timeout:g} s") from error
        message.close()
    echo(f"process {reply['pid']} {'is ready' if reply['ready'] else 'runs'}")


@click.command()
@control_option
@click.argument("name")
@click.argument("command", metavar="[-- COMMAND ARG...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--stdin", is_flag=True, help="Also make the first descriptor the standard input of COMMAND.")
def take(control: str, name: str, command: tuple[str, ...], stdin: bool) -> None:
    """Take the descriptors called NAME out of the store.

    Without COMMAND, prints the content of the first one: a file or a memfd. With COMMAND, runs it with the
    descriptors from number 3 on, as in socket activation; {} in its arguments becomes /dev/fd/3.
    """
    if stdin and not command:
        raise click.UsageError("--stdin needs a COMMAND: give one after --.")
    with connected(control) as channel:
        reply, taken = ask(channel, "take", name=name)
        with taken:  # removed from the store once they are here
            if not command and (kind := taken.fds[0].kind) not in {"file", "memfd"}:
                raise click.UsageError(f"{name!r} is a {kind}, which cannot be printed: give a COMMAND after --.")
            ask(channel, "drop", numbers=reply["numbers"])[1].close()
            channel.close()
            if command:
                run(command, taken.fds, stdin=stdin, environment={})
            copy_out(taken.fds[0], from_start=True)


@click.command()
@control_option
@click.argument("name")
def drop(control: str, name: str) -> None:
    """Close the descriptors called NAME, and remove them from the store."""
    with connected(control) as channel:
        reply, message = ask(channel, "drop", name=name)
        message.close()
    echo(f"dropped {counted(reply['count'], 'descriptor')}")
