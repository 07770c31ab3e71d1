"""``fdpass keep``: run a program, restart it, and store its descriptors. Its commands are in `keep_commands`."""

from __future__ import annotations

import logging
import pwd
from typing import Any

import click

from fdpass._cli.common import seconds
from fdpass._cli.keep_commands import control_option, drop, list_, restart, take
from fdpass._keep.settings import Settings
from fdpass._supervision.logs import line_handler
from fdpass.errors import ConfigError

_COMMANDS = {"list", "restart", "take", "drop"}


class _Keep(click.Group):
    """The commands of `_COMMANDS`, and ``run``; anything else is the start of the arguments of ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["fdpass.args"] = list(args)
        if args and args[0] not in {*_COMMANDS, "run"} and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_Keep,
    epilog="""Examples:

\b
  fdpass keep -- ./server
  fdpass keep --listen 0.0.0.0:80 -- node server.js
  fdpass keep --listen web=[::]:443 --listen admin=unix:/run/a -- ./server
  fdpass keep list
  fdpass keep restart
  fdpass keep take web-connection -- ./inspector
  fdpass keep drop web-connection""",
)
def keep() -> None:
    """Run a program, restart it after a failure, and store its descriptors meanwhile.

    fdpass keep [OPTIONS] -- COMMAND is short for fdpass keep run [OPTIONS] -- COMMAND. To see the options, run
    fdpass keep run --help.
    """


for _command in (list_, restart, take, drop):
    keep.add_command(_command)


class _User(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "user"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(value) if value.isdecimal() else pwd.getpwnam(value).pw_uid
        except (KeyError, ValueError):  # ValueError: more digits than Python converts
            self.fail(f"there is no user {value!r}.", param, ctx)


@keep.command("run")
@click.argument("command", metavar="-- COMMAND ARG...", nargs=-1, required=True, type=click.UNPROCESSED)
@control_option
@click.option(
    "--listen",
    multiple=True,
    metavar="[NAME=]ADDRESS",
    help="Listen at HOST:PORT or unix:PATH, and give the program this socket at each start. Can be repeated.",
)
@click.option(
    "--restart",
    type=click.Choice(["always", "on-failure", "no"]),
    default="on-failure",
    show_default=True,
    help="When to start the program again after its end.",
)
@click.option(
    "--stop-timeout",
    type=seconds,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Time to end after SIGTERM; then the program is killed.",
)
@click.option(
    "--store-max",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many descriptors the program may store.  [default: 512, or what fits]",
)
@click.option(
    "--store-user",
    "store_uids",
    type=_User(),
    multiple=True,
    metavar="USER",
    help="Another user whose processes may store descriptors, by name or number. Can be repeated.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Least level of the lines that are logged.",
)
@click.option("--log-json", is_flag=True, help="Log JSON, one object per line.")
@click.pass_context
def keep_run(ctx: click.Context, /, log_level: str, log_json: bool, **options: Any) -> None:
    """Run COMMAND with a descriptor store, as systemd has one, and start it again after a failure.

    The program stores descriptors with sd_notify: NOTIFY_SOCKET is set, and FDSTORE=1, FDNAME=, FDSTOREREMOVE=1,
    FDPOLL=0 and BARRIER=1 mean what sd_notify(3) says. At each start it gets first the listeners of --listen, then
    what it has stored, from descriptor 3 on (LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID). Before these
    it gets the descriptors with which this command itself was started in the same way.

    Signals: SIGTERM and SIGINT stop the program, the second one at once. SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and
    SIGWINCH are passed on to it. The exit code is that of the program.
    """
    from fdpass._keep.run import run  # noqa: PLC0415 - the other commands and --help need none of it

    settings = Settings(**options)
    if settings.command[0] in _COMMANDS and "--" not in ctx.meta["fdpass.args"]:
        raise click.UsageError(f"Put the options after {settings.command[0]}, or the program after --.")
    logger = logging.getLogger("fdpass")
    logger.handlers[:] = [line_handler(as_json=log_json)]
    logger.propagate = False
    logger.setLevel(log_level.upper())
    try:
        ctx.exit(run(settings))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
