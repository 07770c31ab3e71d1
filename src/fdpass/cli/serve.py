"""``fdpass serve``: one process listens, workers serve. Flags, environment, TOML files."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import click

from fdpass.cli._common import Failure, sentence
from fdpass.errors import ConfigError, StartFailed
from fdpass.serve.config import CHOICES, Config, check_name, size, typed


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            return value if isinstance(value, int) else size(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def _option(name: str, help: str, **more: Any) -> Callable[[Any], Any]:  # noqa: A002 - click's word
    """An option whose environment variable, default and choices follow from the setting's name."""
    setting = name.removeprefix("--").replace("-", "_")
    field = Config.__dataclass_fields__[setting]
    default: Any = field.default
    if setting in CHOICES:
        more["type"] = click.Choice(CHOICES[setting])
    elif field.type == "bool":
        more["is_flag"] = True
    elif isinstance(default, int | float):
        more.setdefault("type", type(default))
    if default and "[default" not in help and (setting in CHOICES or isinstance(default, int | float)):
        help += f"  [default: {default:g}]" if isinstance(default, float) else f"  [default: {default}]"  # noqa: A001
    return click.option(name, setting, envvar=f"FDPASS_{setting.upper()}", default=None, help=help, **more)


def _from_file(ctx: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Make the settings of a TOML file the defaults, behind flags and environment."""
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
        raise click.UsageError(f"{file} is no TOML: {error}") from error
    tool = content.get("tool")
    table = (tool if isinstance(tool, dict) else {}).get("fdpass", content if whole else {})
    if not isinstance(table, dict):
        raise click.UsageError(f"{file}: tool.fdpass is no table")
    found = {name.replace("-", "_"): value for name, value in table.items()}
    try:
        for name, value in found.items():
            check_name(name)
            typed(name, value)  # click would make text of a number, and a number of a truth
    except ConfigError as error:
        raise click.UsageError(f"{file}: {error}") from error
    if isinstance(found.get("bind"), str):
        found["bind"] = [found["bind"]]
    return found


class _Command(click.Command):
    """Remembers what it was called with: a reload reads files and environment again, with the same flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["fdpass.args"] = list(args)
        return super().parse_args(ctx, args)


@click.command(
    cls=_Command,
    epilog="""Each flag can also be given in the environment (--max-rss as FDPASS_MAX_RSS), in [tool.fdpass] of
pyproject.toml, or in the file named by --config; flags go first, then the environment.

Examples:

\b
  fdpass serve
  fdpass serve shop.main:app --bind 0.0.0.0:80 --user www-data
  fdpass serve shop.main:make_app --factory --workers 4 --access-log -
  fdpass serve chat:handle --bind unix:/run/chat.sock --balance hash
  fdpass serve shop.main:app --config shop.toml --check""",
)
@click.argument("app", required=False, envvar="FDPASS_APP", metavar="[MODULE:NAME]")
@_option(
    "--bind",
    "HOST:PORT, [::1]:PORT, unix:PATH or fd://N; repeatable.  [default: 127.0.0.1:8000]",
    multiple=True,
    metavar="ADDRESS",
)
@_option("--workers", "Processes that serve.  [default: one for each processor, at least 2]", type=int)
@_option("--spare", "Processes more, ready to step in at once.  [default: 0]", type=int)
@_option("--accept", "Who accepts: the dispatcher, which passes connections, or the worker whose turn it is.")
@_option("--custody", "Connections outlive their workers; off if workers accept.")
@_option("--replay", "Requests to repeat if their worker died: none that the application began, or those safe to.")
@_option("--balance", "Who gets the next connection; hash goes by the client's address.")
@_option("--interface", "How the application is called.")
@_option("--factory", "NAME is a function that makes the application.")
@_option("--loop", "Event loop of the workers; auto is uvloop if it is installed.")
@_option("--backlog", "Connections that the kernel keeps waiting at each listener.")
@_option("--max-connections", "The most live connections; 0 is what the limit on open files allows.  [default: 0]")
@_option("--tls-cert", "Certificate chain, PEM: serve TLS.", metavar="FILE")
@_option("--tls-key", "Its private key, PEM, if it is not in the same file.", metavar="FILE")
@_option("--tls-ca", "Authorities, PEM: demand a certificate of theirs from each client.", metavar="FILE")
@_option("--proxy-protocol", "Each connection begins with a PROXY header, version 1 or 2.")
@_option("--user", "User to become after binding.", metavar="NAME")
@_option("--group", "Group to become after binding.  [default: the user's]", metavar="NAME")
@_option("--graceful-timeout", "Seconds to finish what is in progress, at a stop or a reload.")
@_option("--start-timeout", "Seconds for a worker to become ready.")
@_option("--hang-timeout", "Seconds after which a worker whose event loop is stuck is killed; 0 is never.")
@_option("--keep-alive", "Seconds that an idle HTTP connection is kept open.")
@_option("--max-requests", "Replace a worker after so many requests; 0 is never.  [default: 0]")
@_option(
    "--max-rss",
    "Replace a worker with more resident memory, such as 500M; 0 is never.  [default: 0]",
    type=_Size(),
)
@_option("--access-log", "A line for each request, to this file; - is standard output.", metavar="FILE")
@_option("--log-level", "The least level to log.")
@_option("--log-json", "Log JSON, one object a line.")
@_option("--pidfile", "File for the dispatcher's process number.", metavar="FILE")
@_option("--control", "Control socket: for fdpass status, reload, scale, stop, workers.", metavar="PATH")
@_option("--app-dir", "Folder to import the application from.  [default: .]", metavar="FOLDER")
@_option("--lifespan", "ASGI lifespan; auto goes on without it if the application does not know it.")
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
    """Serve an application: this process listens, and its workers serve the connections that it hands to them.

    MODULE:NAME is an ASGI or WSGI application, async def handle(reader, writer) or handle(conn), def handle(sock),
    or main(listener), recognised by itself. Without one, a page is served that says which worker served it.

    SIGTERM, SIGINT: stop, and the second time at once. SIGHUP: reload. SIGTTIN, SIGTTOU: one worker more, one
    less. SIGUSR1: open the access log again.
    """
    config = _config(options)
    try:
        from fdpass.serve import server  # noqa: PLC0415 - --help needs none of it
    except ImportError as error:
        raise Failure(_missing(error)) from error
    try:
        if check:
            server.check(config)
            _try_application(config)
            return
        args = ctx.meta["fdpass.args"]
        server.serve(config, lambda: _again(args))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _config(options: Mapping[str, Any]) -> Config:
    given = {name: value for name, value in options.items() if value not in {None, ()}}
    try:
        return Config.of(given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def _again(args: list[str]) -> Config:
    try:
        with serve.make_context("serve", list(args)) as ctx:
            return _config({name: value for name, value in ctx.params.items() if name != "check"})
    except click.ClickException as error:
        raise ConfigError(error.format_message()) from error


def _try_application(config: Config) -> None:
    from fdpass.serve import application  # noqa: PLC0415 - as above

    try:
        app = application.load(config.app, config.app_dir, factory=config.factory)
        interface = application.interface_of(app) if config.interface == "auto" else config.interface
    except BaseException as error:
        told = application.explained(error)
        raise StartFailed(
            told["sentence"] + ("\n" + told["details"].rstrip() if told["details"] else "")
        ) from error
    where = ", ".join(config.bind)
    click.echo(f"{config.app} ({interface}): {config.workers} workers at {where}: the settings are right")


def _missing(error: ImportError) -> str:
    return f"{sentence(error)}: install it with pip install 'fdpass[serve]'"
