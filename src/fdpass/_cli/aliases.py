"""Options of uvicorn and gunicorn that ``fdpass serve`` takes as other names of its own settings.

An alias costs one line in `ALIASES`. ``fdpass serve --help`` names it in the text of its setting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from fdpass._cli import environment
from fdpass.serve.shared.config import SETTINGS
from fdpass.serve.shared.setting import flag

_HTTP = {"auto", "httptools"}  # uvicorn's names for what fdpass always uses


class Alias(NamedTuple):
    """An option that gives a setting its value.

    Attributes:
        option: The option.
        setting: The setting; empty if the option asks for what fdpass always does.
        convert: Makes the setting's value of the option's.
        kind: Kind of the option's value, as of `Setting`; empty: that of the setting.
        is_shown: The help text of the setting names the option.
    """

    option: str
    setting: str
    convert: Callable[[Any], Any] = lambda value: value
    kind: str = ""
    is_shown: bool = True

    @property
    def parameter(self) -> str:
        """The name of the option in click."""
        return "alias_" + self.option.strip("-").replace("-", "_")


def _http(name: str) -> None:
    if name not in _HTTP:
        raise click.UsageError(f"--http {name}: fdpass speaks HTTP/1.1 itself, with the parser of httptools")


ALIASES = (
    Alias("-b", "bind"),
    Alias("--host", "bind", kind="text"),  # see `_value`
    Alias("--port", "bind", kind="whole"),
    Alias("--uds", "bind", lambda paths: tuple(f"unix:{path}" for path in paths), "texts"),
    Alias("--fd", "bind", lambda numbers: tuple(f"fd://{number}" for number in numbers), "numbers"),
    Alias("-w", "workers"),
    Alias("--limit-max-requests", "max_requests"),
    Alias("--limit-max-requests-jitter", "max_requests_jitter"),
    Alias("--timeout-keep-alive", "keep_alive"),
    Alias("--timeout-graceful-shutdown", "graceful_timeout"),
    Alias("--websocket-max-message-size", "ws_max_size"),
    Alias("--ssl-certfile", "tls_cert"),
    Alias("--certfile", "tls_cert"),
    Alias("--ssl-keyfile", "tls_key"),
    Alias("--keyfile", "tls_key"),
    Alias("--access-logfile", "access_log"),
    Alias("--no-access-log", "access_log", lambda _: "", "switch"),
    Alias("--access-logformat", "access_log_format"),
    Alias("--log-config-json", "log_config"),
    Alias("-p", "pidfile"),
    Alias("--pid", "pidfile"),
    Alias("-u", "user"),
    Alias("-g", "group"),
    Alias("--asgi-lifespan", "lifespan"),
    Alias("--asgi-loop", "loop"),
    Alias("--date-header", "no_date_header", lambda _: False, "switch", is_shown=False),  # the opposite
    Alias("--no-proxy-headers", "forwarded_allow_ips", lambda _: "", "switch"),
    Alias("--proxy-headers", "", kind="switch"),
    Alias("--no-server-header", "", kind="switch"),
    Alias("--http", "", _http, "text"),
)

NAMES: Mapping[str, list[str]] = {
    name: [alias.option for alias in ALIASES if alias.setting == name and alias.is_shown] for name in SETTINGS
}
"""For each setting, the aliases that its help text names."""


def apply(ctx: click.Context) -> None:
    """Give the settings the values of their aliases, and take the aliases out of the parameters.

    Raises:
        click.UsageError: A setting has two values: from its own option and from an alias, or from two aliases.
    """
    given: dict[str, dict[Alias, Any]] = {}
    for alias in ALIASES:
        value = ctx.params.pop(alias.parameter, None)
        if not (value is None or value is False or value == ()):  # 0 is a value
            given.setdefault(alias.setting, {})[alias] = value
    for name, values in given.items():
        if name:
            is_own_given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
            ctx.params[name] = _value(name, values, ctx.params[name] if is_own_given else None)
        else:
            for alias, value in values.items():
                alias.convert(value)


def _value(name: str, values: Mapping[Alias, Any], own: Any) -> Any:
    """The value of a setting, from its aliases, and from its own option; None if that is not given."""
    options = {alias.option: value for alias, value in values.items()}
    if options.keys() == {"-b"}:
        return (*(own or ()), *options["-b"])
    words = [*options] if own is None else [*options, flag(name)]
    if len(words) > 1 and set(words) != {"--host", "--port"}:
        raise click.UsageError(
            f"{' and '.join(words)} cannot be combined: they give the same setting, {flag(name)}"
        )
    if options.keys() & {"--host", "--port"}:
        return (_address(options.get("--host", "127.0.0.1"), options.get("--port")),)
    ((alias, value),) = values.items()
    return alias.convert(value)


def _address(host: str, port: int | None) -> str:
    """The address of ``--host`` and ``--port``."""
    if host.count(":") == 1 and not host.startswith("["):
        raise click.UsageError(f"--host {host}: a host has no port; use --bind {host}")
    number = environment.port() if port is None else port
    return f"[{host}]:{number}" if ":" in host and not host.startswith("[") else f"{host}:{number}"
