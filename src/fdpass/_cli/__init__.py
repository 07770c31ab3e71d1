"""The command ``fdpass``: one file per verb, loaded when the verb is used, and one way to report a failure.

Exit codes: 0, 1 (failed), 2 (usage). A signal that stops the command kills it in the end (`signals`). A failure is
one sentence on standard error; a traceback is a bug of fdpass.
"""

from __future__ import annotations

from fdpass._cli.signals import Stopped, end_by  # first: Ctrl-C can come while the rest is imported

# isort: split

import importlib
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

import click

import fdpass
from fdpass import _interrupt
from fdpass._cli import streams
from fdpass._cli.common import Failure, sentence
from fdpass.errors import FdpassError

_VERBS = {  # each is a file in this package, with a function of the same name
    "serve": "Serve an application with several workers.",
    "status": "Show the connections and workers of a running server.",
    "top": "Show a running server live, and act on it by keys.",
    "events": "Show the last events of a running server, and those to come.",
    "list": "Show all running servers of this user.",
    "reload": "Replace the workers of a running server, with new code and settings.",
    "upgrade": "Replace the code of a running server, without losing a connection.",
    "scale": "Change the number of workers of a running server.",
    "stop": "Stop a running server.",
    "workers": "Replace single workers of a running server.",
    "dashboard": "Show running servers on a page, and as metrics and checks.",
    "demo": "Show an open file passed from one process to another.",
    "send": "Send open files to the process that listens at a socket.",
    "recv": "Receive open files at a socket, and print one or run a command with them.",
    "grab": "Copy a descriptor out of a running process.",
    "inspect": "List the descriptors of a process.",
    "keep": "Run a program, restart it, and store its descriptors.",
    "completion": "Print a script with which a shell completes the commands of fdpass.",
}


_IS_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*").fullmatch
_MEANT = {  # what users of other servers type
    "restart": "use reload for new code of the application, or upgrade for a new fdpass or Python",
    "start": "did you mean serve?",
    "run": "did you mean serve?",
}


class _Failed(click.ClickException):
    """A failure, which click prints to standard error and turns into exit code 1."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, file=file, err=True)


class _Verbs(click.Group):
    """Imports the file of a verb when the verb is used: ``fdpass --help`` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [*_VERBS]  # not list(_VERBS): the module of the verb `list` has this name here

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"fdpass._cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([*_VERBS.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in _VERBS:
            self._refuse(ctx, args[0])
        found = super().resolve_command(ctx, args)
        _interrupt.raise_exceptions()  # from here on there is something to clean up
        return found

    def _refuse(self, ctx: click.Context, word: str) -> None:
        """Say what a word that is no command is likely to mean."""
        if _IS_APP(word):
            ctx.fail(f"no such command {word!r}: to serve this application, use fdpass serve {word}")
        if word in _MEANT:
            ctx.fail(f"no such command {word!r}: {_MEANT[word]}")
        import difflib  # noqa: PLC0415 - large, and few need it

        if near := difflib.get_close_matches(word, _VERBS, 1):
            ctx.fail(f"no such command {word!r}: did you mean {near[0]}?")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(signal.SIGINT) from None
        except (Failure, FdpassError, OSError) as error:
            raise _Failed(f"fdpass {ctx.invoked_subcommand}: {sentence(error)}") from error
        except streams.OutputFailed as error:
            if error.broken:
                raise
            raise _Failed(f"fdpass {ctx.invoked_subcommand}: {error}") from error

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        run: Any = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **options)
        streams.prepare()
        code = _exit_code(lambda: run(*args, standalone_mode=False, **options))
        _interrupt.end_at_once()
        sys.exit(code)


def _exit_code(run: Callable[[], Any]) -> int:
    """Run the command, report its failure, and return the exit code."""
    try:
        code = run()
        sys.stdout.flush()
    except Stopped as stopped:
        end_by(stopped.number)
    except click.Abort:  # click's word for Ctrl-C while it parses the arguments
        end_by(signal.SIGINT)
    except streams.OutputFailed as error:
        streams.discard(1)
        if not error.broken:
            streams.echo_error(_Failed(f"fdpass: {error}"))
        return 1
    except click.ClickException as error:
        if isinstance(error.__cause__, streams.OutputFailed):
            streams.discard(1)
        streams.echo_error(error)
        return error.exit_code
    except OSError as error:
        streams.echo_error(_Failed(f"fdpass: {sentence(error)}"))
        return 1
    return code if isinstance(code, int) else 0


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="To start, run: fdpass demo, or fdpass demo serve for the server. Each command has its own --help.",
)
@click.version_option(fdpass.__version__, prog_name="fdpass", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Pass open files and sockets between processes, and serve with several processes."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False
