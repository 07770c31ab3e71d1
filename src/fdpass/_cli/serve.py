"""``fdpass serve``: run a server, with settings from flags, environment and TOML files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fdpass._cli import aliases, environment
from fdpass._cli.aliases import ALIASES, Alias
from fdpass._cli.common import Failure, sentence
from fdpass._cli.habits import hint_for, hint_for_name, hint_for_value, refused
from fdpass._cli.settings_file import REPEATABLE, as_toml, read_settings
from fdpass._cli.streams import echo
from fdpass._words import counted
from fdpass.errors import ConfigError, StartFailed
from fdpass.serve.shared.config import NAMES, SETTINGS, Config
from fdpass.serve.shared.env_file import read_env_file
from fdpass.serve.shared.setting import flag, size
from fdpass.serve.shared.source import Source

if TYPE_CHECKING:
    _IntType = click.ParamType[int]
    _TextChoice = click.Choice[str]
else:
    _IntType, _TextChoice = click.ParamType, click.Choice  # in click 8.1 they take no parameter


class _Size(_IntType):
    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            return value if isinstance(value, int) else size(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class _Choice(_TextChoice):
    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            if hint := hint_for_value(param and param.name, str(value)):
                self.fail(f"{value!r}: {hint}.", param, ctx)
            raise


_METAVARS = {"addresses": "ADDRESS", "path": "FILE", "account": "NAME", "seconds": "SECONDS"}
_TYPES: dict[str, Any] = {"whole": int, "seconds": float, "size": _Size(), "numbers": int}
_WITHOUT_VALUE = {"access_log": "-"}  # under uvicorn this option is a switch
_FROM_FILE = "fdpass.env_file"  # in click's memory of a call: the variables of --env-file
_NO_SETTINGS = {"check", "print_config"}  # parameters of the command
_IS_APP = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*").fullmatch
_AS_TEXT: dict[type, Callable[[Any], str]] = {tuple: " ".join, float: "{:g}".format, bool: lambda _: ""}


def _parameter(name: str) -> click.Parameter:
    """Make the option of a setting; the application is an argument."""
    setting, variable = SETTINGS[name], f"FDPASS_{name.upper()}"
    without_value: dict[str, Any] = {"flag_value": _WITHOUT_VALUE[name]} if name in _WITHOUT_VALUE else {}
    if name == "app":
        return click.Argument([name], required=False, envvar=variable, metavar=f"[{setting.metavar}]")
    return click.Option(
        [flag(name), name],
        type=_Choice(setting.choices, case_sensitive=False) if setting.choices else _TYPES.get(setting.kind),
        is_flag=setting.kind == "switch",
        multiple=setting.kind in REPEATABLE,
        metavar=setting.metavar or _METAVARS.get(setting.kind),
        envvar=variable,
        default=None,
        help=_help(name),
        **without_value,
    )


def _alias(alias: Alias) -> click.Parameter:
    """Make the option of an alias, which the help text of its setting names."""
    setting = SETTINGS.get(alias.setting)
    kind = alias.kind or (setting.kind if setting else "text")
    choices = setting.choices if setting and not alias.kind else ()
    return click.Option(
        [alias.option, alias.parameter],
        type=_Choice(choices, case_sensitive=False) if choices else _TYPES.get(kind),
        is_flag=kind == "switch",
        multiple=kind in REPEATABLE,
        default=None,
        hidden=True,
    )


def _help(name: str) -> str:
    """Write the help text of a setting, with its default in words or as a user would type it, and its aliases."""
    default = Config.__dataclass_fields__[name].default
    shown = SETTINGS[name].shown or _AS_TEXT.get(type(default), str)(default)
    other = ", ".join(aliases.NAMES[name])
    notes = "; ".join([f"default: {shown}"] * bool(shown) + [f"also: {other}"] * bool(other))
    return (SETTINGS[name].help + (f"  [{notes}]" if notes else "")).replace("`", "")


def _from_file(ctx: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Make the settings of a TOML file the defaults; flags and environment take precedence."""
    file = path or "pyproject.toml"
    if path or os.path.exists(file):
        ctx.default_map = read_settings(file, whole=path is not None)
    return path


class _Command(click.Command):
    """Keeps its arguments: a reload combines the same flags with files and environment as they are then.

    For an option of uvicorn or gunicorn that is no alias the error says what to use instead.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["fdpass.args"] = list(args)
        rest = self._parsed(ctx, args)
        if ctx.params.get("env_file"):
            try:
                variables = read_env_file(ctx.params["env_file"])
            except ConfigError as error:
                raise click.UsageError(str(error), ctx) from error
            ctx.meta[_FROM_FILE] = variables
            ctx.params.clear()
            with environment.added(variables):
                return self._parsed(ctx, args)
        return rest

    def _parsed(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            rest = super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            if hint_for(error.option_name) is None:
                raise
            raise click.NoSuchOption(
                error.option_name, "\n".join(refused([error.option_name, *args])), ctx=ctx
            ) from None
        aliases.apply(ctx)
        environment.add_defaults(ctx.params)
        return rest


@click.command(
    cls=_Command,
    params=[*(_parameter(name) for name in SETTINGS), *(_alias(alias) for alias in ALIASES)],
    epilog="""Each setting can also stand in the environment (--max-rss as FDPASS_MAX_RSS), or in the file of
--config, or without --config in [tool.fdpass] of pyproject.toml. A flag takes precedence over the environment, and
the environment over a file.

Examples:

\b
  fdpass serve
  fdpass serve shop.main:app --bind 0.0.0.0:80 --user www-data
  fdpass serve shop.main:make_app --factory --workers 4 --access-log -
  fdpass serve chat:handle --bind unix:/run/chat.sock --balance hash
  fdpass serve shop.main:app --config shop.toml --check""",
)
@click.option(
    "--config",
    "-c",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_from_file,
    envvar="FDPASS_CONFIG",
    help="TOML file with settings.",
)
@click.option("--check", "--check-config", is_flag=True, help="Check the settings and the application, and exit.")
@click.option("--print-config", is_flag=True, help="As --check, and print all settings, as a file for --config.")
@click.pass_context
def serve(ctx: click.Context, /, check: bool, print_config: bool, **options: Any) -> None:
    """Serve an application: the dispatcher listens, and passes each connection to a worker process.

    MODULE:NAME is an ASGI or WSGI application, async def handle(reader, writer) or handle(conn), def handle(sock),
    or main(listener): its parameters decide. Without MODULE:NAME, the server answers with a page that names its
    worker.

    Signals: SIGTERM, SIGINT and SIGQUIT stop the server, the second one at once. SIGHUP reloads. SIGTTIN adds a
    worker, SIGTTOU removes one. SIGUSR1 opens the access log again. SIGUSR2 upgrades a server with a keeper.
    """
    config = _config(options)
    _warn_of_variables(os.environ, "the environment")
    _warn_of_variables(ctx.meta.get(_FROM_FILE, {}), f"the file {config.env_file}")
    try:
        from fdpass.serve import server  # noqa: PLC0415 - --help needs none of it
    except ImportError as error:
        raise Failure(_import_failure(error)) from error
    try:
        if check or print_config:
            server.check(config)
            if print_config:
                echo(as_toml(config))
            _try_application(config, "# " if print_config else "")
            return
        args, variables = ctx.meta["fdpass.args"], dict(os.environ)  # of which a server removes NOTIFY_SOCKET
        server.serve(config, lambda: reread(args), Source(__name__, reread.__name__, args))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except StartFailed as error:
        if not config.reload:
            raise
        _start_again_after_a_change(config, error, variables)


def _warn_of_variables(variables: Mapping[str, str], place: str) -> None:
    for warning in (
        *environment.misspelt(variables, place, NAMES, aliases.NAMES),
        *environment.of_others(variables, place, lambda name: name in NAMES or hint_for_name(name) is not None),
    ):
        echo(f"fdpass serve: warning: {warning}", err=True)


def _start_again_after_a_change(config: Config, error: StartFailed, variables: dict[str, str]) -> NoReturn:
    """Wait until a file has changed, and run the same command again."""
    from fdpass.serve.operator import watch  # noqa: PLC0415 - it imports much, and few need it

    echo(f"fdpass serve: {sentence(error)}\nfdpass serve: waiting for a change of a file", err=True)
    echo(f"fdpass serve: changed: {watch.named(next(watch.changes(config)))}", err=True)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)  # noqa: S606 - the command of the user


def _config(options: Mapping[str, Any]) -> Config:
    given = {name: value for name, value in options.items() if value not in {None, ()}}
    if "app" not in given and _IS_APP(log := str(given.get("access_log", ""))):
        raise click.UsageError(f"--access-log {log} names a file: write the application first, or --access-log=-")
    try:
        return Config.of(given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def reread(args: list[str]) -> Config:
    """Combine flags with environment and files as they are now.

    Args:
        args: The arguments of ``fdpass serve``.

    Raises:
        ConfigError: A setting is not allowed.
    """
    try:
        with serve.make_context("serve", list(args)) as ctx:
            return _config({name: value for name, value in ctx.params.items() if name not in _NO_SETTINGS})
    except click.ClickException as error:
        raise ConfigError(error.format_message()) from error


def _try_application(config: Config, start: str) -> None:
    from fdpass.serve.worker import application, preparation  # noqa: PLC0415 - as above

    try:
        interface = preparation.prepare(config).interface
    except BaseException as error:
        failure = application.explain(error)
        raise StartFailed(
            failure["sentence"] + ("\n" + failure["details"].rstrip() if failure["details"] else "")
        ) from error
    where = ", ".join(config.bind)
    workers = counted(config.workers, "worker")
    echo(f"{start}{config.app} ({interface}): {workers} at {where}: settings and application are valid")


def _import_failure(error: ImportError) -> str:
    return f"{sentence(error)}: install it with pip install 'fdpass[serve]'"
