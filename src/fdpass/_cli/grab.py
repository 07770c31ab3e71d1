"""``fdpass grab``: copy a descriptor out of another process, and print its content or run a command with it."""

from __future__ import annotations

import click

import fdpass
from fdpass._cli.common import copy_out
from fdpass._cli.run import run


@click.command(
    epilog="""Examples:

\b
  fdpass inspect 1234                    list the descriptors of process 1234
  fdpass grab 1234 7 > rescued.log       a deleted file that 1234 still holds open
  fdpass grab 1234 3 -- ./server         a second process on the same listener
  fdpass grab 1234 0 --stdin -- wc -l    take over its standard input"""
)
@click.argument("pid", type=click.IntRange(min=1))
@click.argument("fd", type=click.IntRange(min=0))
@click.argument("command", metavar="[-- COMMAND ARG...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--stdin", is_flag=True, help="Also make the descriptor the standard input of COMMAND.")
def grab(pid: int, fd: int, command: tuple[str, ...], stdin: bool) -> None:
    """Copy descriptor FD out of process PID, which keeps its own.

    Without COMMAND, prints the content. A file is printed whole, even if PID has it open for writing only, and the
    offset that PID shares does not move. A pipe or a socket is read from its present position, and PID does not
    get those bytes any more.

    With COMMAND, runs it with the descriptor as number 3, as in socket activation (LISTEN_FDS, LISTEN_PID,
    LISTEN_FDNAMES); {} in its arguments becomes /dev/fd/3.

    You need the right to trace PID: the same user, unless a security module forbids it, or root.
    """
    if stdin and not command:
        raise click.UsageError("--stdin needs a COMMAND: give one after --.")
    with fdpass.grab(pid, fd) as taken:
        if command:
            run(command, [taken], stdin=stdin, environment={})
        copy_out(taken, from_start=True)
