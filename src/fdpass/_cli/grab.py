"""``fdpass grab``: a descriptor out of another process, printed or handed to a command."""

from __future__ import annotations

import click

import fdpass
from fdpass._cli.common import copy_out
from fdpass._cli.run import run


@click.command(
    epilog="""Examples:

\b
  fdpass inspect 1234                    which descriptors are there?
  fdpass grab 1234 7 > rescued.log       a deleted file that 1234 still holds open
  fdpass grab 1234 3 -- ./server         a second process on the same listener
  fdpass grab 1234 0 --stdin -- wc -l    take over its standard input"""
)
@click.argument("pid", type=click.IntRange(min=1))
@click.argument("fd", type=click.IntRange(min=0))
@click.argument("command", metavar="[-- COMMAND ARG...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--stdin", is_flag=True, help="Put the descriptor on the command's standard input, too.")
def grab(pid: int, fd: int, command: tuple[str, ...], stdin: bool) -> None:
    """Take descriptor FD out of process PID.

    Without a COMMAND, copies what it holds to standard output: a file whole, without moving the offset that
    PID shares; a pipe or a socket from where it stands, so that PID does not see that part any more. With
    one, runs it with the descriptor as number 3 (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES); {} in its
    arguments becomes /dev/fd/3.

    PID keeps its own. You need the right to trace it: same user and not prevented, or root.
    """
    if stdin and not command:
        raise click.UsageError("--stdin is for a COMMAND: give one after --.")
    with fdpass.grab(pid, fd) as taken:
        if command:
            run(command, [taken], stdin=stdin, environment={})
        copy_out(taken, from_start=True)
