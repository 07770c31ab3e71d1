"""The command ``fdpass``: one file per verb, loaded when that verb is used, and one way to report a failure.

Exit codes: 0, 1 (failed), 2 (usage), 130 (interrupted). What fails is told in one sentence on standard
error; a traceback is a bug of ours.
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
    "status": "Show what a running server does.",
    "reload": "Let a running server start its code anew.",
    "scale": "Give a running server more workers, or fewer.",
    "stop": "Let a running server finish, and end.",
    "workers": "Handle single workers of a running server.",
    "demo": "Watch an open file go from one process to another.",
    "send": "Send open files to whoever listens at a socket.",
    "recv": "Listen at a socket, take what is sent: print it, or run a command with it.",
    "grab": "Take a descriptor out of a running process.",
    "inspect": "Show which descriptors a process holds.",
}


class _Told(click.ClickException):
    """A failure, on its way to standard error and exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, file=file, err=True)


class _Verbs(click.Group):
    """Loads a verb's file only when it is used: ``fdpass --help`` needs none of them."""

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
        _keep_standard_streams()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except BrokenPipeError:
            _forget_output()
            raise click.exceptions.Exit(1) from None
        except (Failure, FdpassError, OSError) as error:
            raise _Told(f"fdpass {ctx.invoked_subcommand}: {sentence(error)}") from error


def _keep_standard_streams() -> None:
    """Fill closed standard streams: else the first descriptor that we receive would become one of them."""
    for number, wrong_way in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, wrong_way)  # the lowest free number is this one; using it still fails


def _forget_output() -> None:
    """Nobody reads on: let the interpreter's last flush go nowhere instead of complaining."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Try first: fdpass demo. Each command has its own --help, with examples.",
)
@click.version_option(fdpass.__version__, prog_name="fdpass", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Pass open files, sockets and any descriptor between processes, and serve with several of them."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False
