"""`Config`: every setting of a server in one frozen record, checked once, when it is made.

All that is known of a setting stands in its field. The docstring of `Config`, the options of ``fdpass serve`` and
the table in docs/reference.md are made from it.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fdpass.errors import ConfigError
from fdpass.serve.shared.ledger import MOST_WORKERS

WELCOME = "fdpass.serve.worker.welcome:app"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_AT_ONCE = MOST_WORKERS // 4  # a reload has two generations, and some may be on their way out
_KINDS = {str: "text", int: "whole", float: "seconds", bool: "switch", tuple: "addresses"}
_TAKES: dict[str, tuple[Any, str]] = {
    "whole": (int, "a whole number"),
    "size": (int, "a whole number"),
    "seconds": (float | int, "a number of seconds"),
    "switch": (bool, "true or false"),
}
_BOUNDS = {"whole": (0, 2**62), "size": (0, 2**62), "seconds": (0, 1_000_000)}  # where a setting has no others


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is known of a setting beyond its name, type and default.

    Attributes:
        help: What it is, for the command line and the reference; `...` marks code.
        kind: What it takes: text, path, account, whole (number), seconds, size, switch or addresses.
        choices: The only values; none if any will do.
        bounds: The least and the greatest number; None of what is no number.
        metavar: What stands for its value in a usage; empty if the kind says it.
        shown: The default in words, where its value does not tell.
    """

    help: str
    kind: str
    choices: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None
    metavar: str = ""
    shown: str = ""


def _setting(default: Any, text: str, *, kind: str = "", **more: Any) -> Any:
    """A field of `Config`; a default that is a function is called for each record."""
    kind = kind or _KINDS[type(default() if callable(default) else default)]
    metadata = {"setting": Setting(help=text, kind=kind, **{"bounds": _BOUNDS.get(kind), **more})}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _default_workers() -> int:
    # Two at least: while one is replaced, another serves.
    return max(2, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of a server.

    Raises:
        ConfigError: One of them is not what it can be.
    """

    app: str = _setting(WELCOME, "Application to serve, as `MODULE:NAME`.", metavar="MODULE:NAME")
    bind: tuple[str, ...] = _setting(
        ("127.0.0.1:8000",),
        "Address to listen at: `HOST:PORT`, `[::1]:PORT`, `unix:PATH` or `fd://N`; repeatable. "
        "Sockets from socket activation come before these, and in place of the default.",
    )
    workers: int = _setting(
        _default_workers, "Number of workers.", bounds=(1, _AT_ONCE), shown="one per processor, at least 2"
    )
    spare: int = _setting(
        0, "Extra workers that wait, ready, until one must replace another.", bounds=(0, _AT_ONCE)
    )
    accept: str = _setting(
        "dispatcher",
        "Who accepts: the dispatcher, which passes connections, or the worker whose turn it is (no custody).",
        choices=("dispatcher", "worker"),
    )
    custody: str = _setting(
        "on",
        "Let connections outlive their worker: another goes on with them. Always off with `--accept worker`.",
        choices=("on", "off"),
    )
    replay: str = _setting(
        "safe",
        "Retry after a worker's death: `none` = only requests that the application never saw; `safe` = also GET, "
        "HEAD, OPTIONS, TRACE; `idempotent` = also PUT and DELETE. No request is retried once its response began.",
        choices=("none", "safe", "idempotent"),
    )
    balance: str = _setting(
        "least",
        "Which worker gets the next connection: `least` = the one with the fewest connections; `round-robin` = "
        "each in turn; `hash` = the same one for the same client address.",
        choices=("least", "round-robin", "hash"),
    )
    interface: str = _setting(
        "auto",
        "How to call the application; `auto` = as its parameters tell.",
        choices=("auto", "asgi", "wsgi", "stream", "blocking", "listener"),
    )
    factory: bool = _setting(False, "Call the function NAME, and serve the application that it returns.")
    loop: str = _setting(
        "auto",
        "Event loop of the workers; `auto` = uvloop if it is installed. Interface `listener` always uses asyncio.",
        choices=("auto", "uvloop", "asyncio"),
    )
    backlog: int = _setting(
        2048,
        "Most connections that wait at a listener to be accepted; the kernel caps it at `net.core.somaxconn`.",
        bounds=(1, 2**31 - 1),
    )
    max_connections: int = _setting(
        0, "Most connections at a time; 0 = as many as the limit on open files allows.", bounds=(0, 2**24)
    )
    tls_cert: str = _setting("", "PEM file of the certificate chain. Turns TLS on.", kind="path")
    tls_key: str = _setting("", "PEM file of the private key.", kind="path", shown="the file of `--tls-cert`")
    tls_ca: str = _setting(
        "", "PEM file of authorities: each client must show a certificate of theirs.", kind="path"
    )
    proxy_protocol: bool = _setting(
        False, "Demand a PROXY header, version 1 or 2, on each connection; it tells the client's address."
    )
    user: str = _setting("", "User to become after binding, by name or number; only root can.", kind="account")
    group: str = _setting(
        "", "Group to become after binding, by name or number.", kind="account", shown="the user's own"
    )
    graceful_timeout: float = _setting(
        30.0, "Seconds for a worker that stops or retires to finish what is in progress; the rest is then cut."
    )
    start_timeout: float = _setting(
        60.0, "Seconds for a worker to become ready; a slower one is killed.", bounds=(0.1, 1_000_000)
    )
    hang_timeout: float = _setting(
        30.0, "Seconds that a worker's event loop may stand still before the worker is killed; 0 = no limit."
    )
    keep_alive: float = _setting(5.0, "Seconds that an idle HTTP connection stays open.")
    max_requests: int = _setting(
        0, "Replace a worker after so many requests (connections, if it serves no HTTP); 0 = never."
    )
    max_rss: int = _setting(
        0,
        "Replace a worker whose resident memory exceeds this (bytes, or such as `500M`); 0 = never.",
        kind="size",
    )
    access_log: str = _setting(
        "", "File for a line per HTTP request or WebSocket; `-` = standard output.", kind="path"
    )
    log_level: str = _setting(
        "info", "Least severe level to log.", choices=("debug", "info", "warning", "error", "critical")
    )
    log_json: bool = _setting(False, "Write the log and the access log as JSON, one object a line.")
    pidfile: str = _setting("", "File for the dispatcher's process number; removed at the end.", kind="path")
    control: str = _setting(
        "",
        "Control socket, for fdpass status, reload, scale, stop and workers.",
        kind="path",
        metavar="PATH",
        shown="fdpass.sock in $XDG_RUNTIME_DIR, else in /run for root, else in /tmp/fdpass-UID",
    )
    app_dir: str = _setting(".", "Folder to import the application from.", kind="path", metavar="FOLDER")
    lifespan: str = _setting(
        "auto",
        "ASGI lifespan: `on` = the application must support it; `off` = left out; `auto` = run if supported.",
        choices=("auto", "on", "off"),
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, typed(field.name, getattr(self, field.name)))
        _check_app(self.app)
        for name, setting in SETTINGS.items():
            _check_range(name, setting, getattr(self, name))
        if (self.tls_key or self.tls_ca) and not self.tls_cert:
            raise ConfigError("--tls-key and --tls-ca need --tls-cert: the certificate to show")
        if not os.path.isdir(self.app_dir):
            raise ConfigError(f"--app-dir {self.app_dir!r} is no folder")

    @property
    def keeps(self) -> bool:
        """Whether connections are in custody."""
        return self.custody == "on" and self.accept == "dispatcher"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """A record of settings by name.

        Raises:
            ConfigError: There is no such setting, or it is not what it can be.
        """
        for name in options:
            check_name(name)
        return cls(**options)


SETTINGS: dict[str, Setting] = {field.name: field.metadata["setting"] for field in dataclasses.fields(Config)}
"""What is known of each setting, by its name, in the order of the fields."""

NAMES = tuple(SETTINGS)


def _attributes() -> str:
    lines = (f"{name}: {setting.help}" for name, setting in SETTINGS.items())
    return "\n".join(textwrap.fill(line, 100, initial_indent=" " * 4, subsequent_indent=" " * 8) for line in lines)


if Config.__doc__:  # python -OO has none
    Config.__doc__ = f"{inspect.cleandoc(Config.__doc__)}\n\nAttributes:\n{_attributes()}\n"


def flag(name: str) -> str:
    """A setting's name as the command line has it."""
    return "--" + name.replace("_", "-") if name != "app" else "the application"


def check_name(name: str) -> None:
    """Whether there is such a setting; names may be written with dashes.

    Raises:
        ConfigError: There is none, and which one may be meant.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"there is no setting {name!r}{hint}")


def typed(name: str, value: Any) -> Any:
    """The value in the type of its setting, from Python or TOML.

    Raises:
        ConfigError: It is of another type.
    """
    kind = SETTINGS[name].kind
    if kind == "addresses":
        found = (value,) if isinstance(value, str) else value
        if not isinstance(found, tuple | list) or not found or not all(isinstance(item, str) for item in found):
            raise ConfigError(f"{flag(name)} takes one or more addresses, not {value!r}")
        return tuple(found)
    if kind == "size" and isinstance(value, str):
        return size(value)
    if kind == "path" and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind == "account" and type(value) is int:
        value = str(value)
    wanted, words = _TAKES.get(kind, (str, "text"))
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "switch"):
        raise ConfigError(f"{flag(name)} takes {words}, not {value!r}")
    if kind == "seconds" and not math.isfinite(value):
        raise ConfigError(f"{flag(name)} takes a finite number, not {value!r}")
    return value


def _check_range(name: str, setting: Setting, value: Any) -> None:
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{flag(name)} {value!r}: it is one of {', '.join(setting.choices)}")
    if setting.bounds is not None:
        least, most = setting.bounds
        if not least <= value <= most:
            raise ConfigError(f"{flag(name)} {value!r}: it is from {least:,} to {most:,}")


def size(text: str) -> int:
    """Bytes, from text such as ``500M``; K, M and G are powers of 1024.

    Raises:
        ConfigError: It is no size.
    """
    match = re.fullmatch(r"(\d{1,12})\s?([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise ConfigError(f"{text!r} is no size: write a number of bytes, or one with K, M or G, such as 500M")
    return int(match[1]) * _UNITS[match[2].upper()]


def _check_app(app: str) -> None:
    module, colon, name = app.partition(":")
    if not (module and colon and name and all(part.isidentifier() for part in module.split("."))):
        raise ConfigError(
            f"{app!r} does not name an application: write MODULE:NAME, such as shop.main:app "
            "(a module of dots, not a path)"
        )
