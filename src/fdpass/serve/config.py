"""`Config`: every setting of a server in one frozen record, checked once, when it is made."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fdpass.errors import ConfigError
from fdpass.serve.ledger import MOST_WORKERS

WELCOME = "fdpass.serve.welcome:app"
CHOICES = {
    "accept": ("dispatcher", "worker"),
    "balance": ("least", "round-robin", "hash"),
    "interface": ("auto", "asgi", "wsgi", "stream", "blocking", "listener"),
    "loop": ("auto", "uvloop", "asyncio"),
    "lifespan": ("auto", "on", "off"),
    "custody": ("on", "off"),
    "replay": ("none", "safe", "idempotent"),
    "log_level": ("debug", "info", "warning", "error", "critical"),
}
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_LONGEST = 1_000_000  # seconds: some days


def _default_workers() -> int:
    # Two at least: while one is replaced, another serves.
    return max(2, len(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of a server.

    Attributes:
        app: ``module:name`` of the application, or of what makes it (``factory``).
        bind: Where to listen: ``HOST:PORT``, ``[::1]:PORT``, ``unix:PATH``, ``fd://N``. Sockets given by socket
            activation go before these.
        workers: How many processes serve, 1 or more; by default one for each processor, and two at least.
        spare: How many processes more are started and ready, and get nothing until one is needed.
        accept: Who calls accept(2): the dispatcher, which passes connections, or the worker whose turn it is.
        custody: The dispatcher keeps a duplicate of each connection, so that it outlives its worker: on, off; off
            where workers accept.
        replay: Which requests are repeated by another worker if theirs died before it answered: those that the
            application has not begun (none), those of safe methods too, or of idempotent ones.
        balance: Which worker gets the next connection: least, round-robin or hash (of the client's address).
        interface: How the application is called: asgi, wsgi, stream, blocking, listener; auto finds out.
        factory: The application is what the named function returns.
        loop: The event loop of the workers: uvloop, asyncio; auto is uvloop if it is installed.
        backlog: How many connections the kernel keeps waiting at each listener; it bounds this by
            ``net.core.somaxconn``.
        max_connections: The most live connections; 0 is as many as the limit on open files allows.
        tls_cert: File of the certificate chain, PEM. Turns TLS on.
        tls_key: File of its private key, PEM; by default it is in ``tls_cert``.
        tls_ca: File of the authorities, PEM, of which each client must show a certificate.
        proxy_protocol: Each connection begins with a PROXY header, version 1 or 2, that says who the client is.
        user: Name or number of the user to become after binding.
        group: Name or number of the group; by default the user's own.
        graceful_timeout: Seconds that a worker which retires or stops may take for what is in progress.
        start_timeout: Seconds that a worker may take to become ready.
        hang_timeout: Seconds after which a worker whose event loop does not move is killed; 0 is never.
        keep_alive: Seconds that an idle HTTP connection is kept open.
        max_requests: Replace a worker that has handled so many; 0 is never.
        max_rss: Replace a worker whose resident memory exceeds so many bytes (or "500M"); 0 is never.
        access_log: File for a line per request; ``-`` is standard output; none if empty.
        log_level: The least level to log: debug, info, warning, error, critical.
        log_json: Log JSON objects, one a line, also to the access log.
        pidfile: File for the dispatcher's process number, removed at the end.
        control: Path of the control socket.
        app_dir: Folder to import the application from.
        lifespan: ASGI lifespan: on, off; auto goes on if the application does not know it.

    Raises:
        ConfigError: One of them is not what it can be.
    """

    app: str = WELCOME
    bind: tuple[str, ...] = ("127.0.0.1:8000",)
    workers: int = dataclasses.field(default_factory=_default_workers)
    spare: int = 0
    accept: str = "dispatcher"
    custody: str = "on"
    replay: str = "safe"
    balance: str = "least"
    interface: str = "auto"
    factory: bool = False
    loop: str = "auto"
    backlog: int = 2048
    max_connections: int = 0
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    proxy_protocol: bool = False
    user: str = ""
    group: str = ""
    graceful_timeout: float = 30.0
    start_timeout: float = 60.0
    hang_timeout: float = 30.0
    keep_alive: float = 5.0
    max_requests: int = 0
    max_rss: int = 0
    access_log: str = ""
    log_level: str = "info"
    log_json: bool = False
    pidfile: str = ""
    control: str = ""
    app_dir: str = "."
    lifespan: str = "auto"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, typed(field.name, getattr(self, field.name)))
        _check_app(self.app)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"{flag(name)} {getattr(self, name)!r}: it is one of {', '.join(choices)}")
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{flag(name)} {getattr(self, name)!r}: it is from {least:,} to {most:,}")
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


_BOUNDS: dict[str, tuple[float, float]] = {
    "workers": (1, MOST_WORKERS // 4),  # a reload has two generations, and some may be on their way out
    "spare": (0, MOST_WORKERS // 4),
    "backlog": (1, 2**31 - 1),
    "max_connections": (0, 2**24),
    "graceful_timeout": (0, _LONGEST),
    "start_timeout": (0.1, _LONGEST),
    "hang_timeout": (0, _LONGEST),
    "keep_alive": (0, _LONGEST),
    "max_requests": (0, 2**62),
    "max_rss": (0, 2**62),
}
NAMES = tuple(field.name for field in dataclasses.fields(Config))


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
    kind = Config.__annotations__[name]
    if kind == "tuple[str, ...]":
        found = (value,) if isinstance(value, str) else value
        if not isinstance(found, tuple | list) or not found or not all(isinstance(item, str) for item in found):
            raise ConfigError(f"{flag(name)} takes one or more addresses, not {value!r}")
        return tuple(found)
    if name == "max_rss" and isinstance(value, str):
        return size(value)
    wanted: Any = {"str": str, "int": int, "float": float | int, "bool": bool}[kind]
    if name in {"tls_cert", "tls_key", "tls_ca", "access_log", "pidfile", "control", "app_dir"}:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
    if name in {"user", "group"} and type(value) is int:
        value = str(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
        raise ConfigError(f"{flag(name)} takes {_WORDS[kind]}, not {value!r}")
    if kind == "float" and not math.isfinite(value):
        raise ConfigError(f"{flag(name)} takes a finite number, not {value!r}")
    return value


_WORDS = {"str": "text", "int": "a whole number", "float": "a number of seconds", "bool": "true or false"}


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
