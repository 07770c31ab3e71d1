"""``fdpass serve``: run a server, with settings from flags, environment and TOML files."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from fdpass._cli.common import Failure, sentence
from fdpass._cli.habits import hint_for
from fdpass._cli.streams import echo
from fdpass._words import counted
from fdpass.errors import ConfigError, StartFailed
from fdpass.serve.shared.config import SETTINGS, Config, check_name, typed
from fdpass.serve.shared.setting import flag, size

if TYPE_CHECKING:
    _IntType = click.ParamType[int]
else:
    _IntType = click.ParamType  # in click 8.1 it takes no parameter


class _Size(_IntType):
    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            return value if isinstance(value, int) else size(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


_METAVARS = {"addresses": "ADDRESS", "path": "FILE", "account": "NAME", "seconds": "SECONDS"}
_REPEATABLE = {"addresses", "prefixes"}  # kinds of settings
_TYPES: dict[str, Any] = {"whole": int, "seconds": float, "size": _Size()}
_AS_TEXT: dict[type, Callable[[Any], str]] = {tuple: " ".join, float: "{:g}".format, bool: lambda _: ""}


def _parameter(name: str) -> click.Parameter:
    """Make the option of a setting; the application is an argument."""
    setting, variable = SETTINGS[name], f"FDPASS_{name.upper()}"
    if name == "app":
        return click.Argument([name], required=False, envvar=variable, metavar=f"[{setting.metavar}]")
    return click.Option(
        [flag(name), name],
        type=click.Choice(setting.choices) if setting.choices else _TYPES.get(setting.kind),
        is_flag=setting.kind == "switch",
        multiple=setting.kind in _REPEATABLE,
        metavar=setting.metavar or _METAVARS.get(setting.kind),
        envvar=variable,
        default=None,
        help=_help(name),
    )


def _help(name: str) -> str:
    """Write the help text of a setting, with its default in words or as a user would type it."""
    default = Config.__dataclass_fields__[name].default
    shown = SETTINGS[name].shown or _AS_TEXT.get(type(default), str)(default)
    return (SETTINGS[name].help + (f"  [default: {shown}]" if shown else "")).replace("`", "")


def _from_file(ctx: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Make the settings of a TOML file the defaults; flags and environment take precedence."""
    file = path or "pyproject.toml"
    if path or os.path.exists(file):
        ctx.default_map = _settings_in(file, whole=path is not None)
    return path


def _settings_in(file: str, *, whole: bool) -> dict[str, Any]:
    try:
        with open(file, "rb") as opened:
            content = tomllib.load(opened)
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{file} is not TOML: {error}") from error
    tool = content.get("tool")
    table = (tool if isinstance(tool, dict) else {}).get("fdpass", content if whole else {})
    if not isinstance(table, dict):
        raise click.UsageError(f"{file}: tool.fdpass is not a table")
    found = {name.replace("-", "_"): value for name, value in table.items()}
    try:
        for name, value in found.items():
            check_name(name)
            typed(name, value)  # click would accept a number as text, and true as a number
    except ConfigError as error:
        raise click.UsageError(f"{file}: {error}") from error
    for name, value in found.items():
        if SETTINGS[name].kind in _REPEATABLE and isinstance(value, str):
            found[name] = [value]
    return found


class _Command(click.Command):
    """Keeps its arguments: a reload combines the same flags with files and environment as they are then.

    For an option of uvicorn or gunicorn the error names the counterpart.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["fdpass.args"] = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if (hint := hint_for(error.option_name)) is None:
                raise
            raise click.NoSuchOption(
                error.option_name, f"No such option '{error.option_name}': {hint}.", ctx=ctx
            ) from None


@click.command(
    cls=_Command,
    params=[_parameter(name) for name in SETTINGS],
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
@click.option("--check", is_flag=True, help="Check the settings and the application, and exit.")
@click.pass_context
def serve(ctx: click.Context, /, check: bool, **options: Any) -> None:
    """Serve an application: this process, the dispatcher, listens, and passes each connection to a worker.

    MODULE:NAME is an ASGI or WSGI application, async def handle(reader, writer) or handle(conn), def handle(sock),
    or main(listener): its parameters decide. Without MODULE:NAME, the server answers with a page that names its
    worker.

    Signals: SIGTERM, SIGINT and SIGQUIT stop the server, the second one at once. SIGHUP reloads. SIGTTIN adds a
    worker, SIGTTOU removes one. SIGUSR1 opens the access log again.
    """
    config = _config(options)
    try:
        from fdpass.serve import server  # noqa: PLC0415 - --help needs none of it
    except ImportError as error:
        raise Failure(_import_failure(error)) from error
    try:
        if check:
            server.check(config)
            _try_application(config)
            return
        args = ctx.meta["fdpass.args"]
        server.serve(config, lambda: _reread(args))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _config(options: Mapping[str, Any]) -> Config:
    given = {name: value for name, value in options.items() if value not in {None, ()}}
    try:
        return Config.of(given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _reread(args: list[str]) -> Config:
    try:
        with serve.make_context("serve", list(args)) as ctx:
            return _config({name: value for name, value in ctx.params.items() if name != "check"})
    except click.ClickException as error:
        raise ConfigError(error.format_message()) from error


def _try_application(config: Config) -> None:
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
    echo(f"{config.app} ({interface}): {workers} at {where}: settings and application are valid")


def _import_failure(error: ImportError) -> str:
    return f"{sentence(error)}: install it with pip install 'fdpass[serve]'"
