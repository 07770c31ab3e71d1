"""The command ``fdpass``: one file per verb, loaded when the verb is used, and one way to report a failure.

Exit codes: 0, 1 (failed), 2 (usage), 130 (interrupted). A failure is one sentence on standard error; a traceback
is a bug of fdpass.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

import fdpass
from fdpass._cli.common import Failure, sentence
from fdpass.errors import FdpassError

_VERBS = {  # each is a file in this package, with a function of the same name
    "serve": "Serve an application with several workers.",
    "status": "Show the connections and workers of a running server.",
    "reload": "Replace the workers of a running server, with new code and settings.",
    "scale": "Change the number of workers of a running server.",
    "stop": "Stop a running server.",
    "workers": "Replace single workers of a running server.",
    "demo": "Show an open file passed from one process to another.",
    "send": "Send open files to the process that listens at a socket.",
    "recv": "Receive open files at a socket, and print one or run a command with them.",
    "grab": "Copy a descriptor out of a running process.",
    "inspect": "List the descriptors of a process.",
}


class _Failed(click.ClickException):
    """A failure, which click prints to standard error and turns into exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, file=file, err=True)


class _Verbs(click.Group):
    """Imports the file of a verb when the verb is used: ``fdpass --help`` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"fdpass._cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        _fill_standard_streams()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:
            _discard_output()
            raise click.exceptions.Exit(1) from None
        except (Failure, FdpassError, OSError) as error:
            raise _Failed(f"fdpass {ctx.invoked_subcommand}: {sentence(error)}") from error


def _fill_standard_streams() -> None:
    """Open /dev/null at closed standard streams: else a received descriptor could get the number of one."""
    for number, unusable in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, unusable)  # takes the lowest free number, this one; its use still fails


def _discard_output() -> None:
    """Make /dev/null the standard output, whose reader has gone: else the interpreter's last flush would fail."""
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 1)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="To start, run: fdpass demo. Each command has its own --help, with examples.",
)
@click.version_option(fdpass.__version__, prog_name="fdpass", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Pass open files and sockets between processes, and serve with several processes."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False
