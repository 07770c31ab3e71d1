"""`Config`: every setting of a server in one frozen record, checked once, when it is made.

The field of a setting holds its help text, kind, choices and bounds. The docstring of `Config`, the options of
``fdpass serve`` and the table in docs/reference.md are made from the fields.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fdpass.errors import ConfigError
from fdpass.serve.shared import app_name
from fdpass.serve.shared.http_settings import HttpSettings
from fdpass.serve.shared.ledger import MOST_WORKERS
from fdpass.serve.shared.processors import processors
from fdpass.serve.shared.setting import Setting, check_range, convert, field

WELCOME = "fdpass.serve.worker.welcome:app"
MOST_WANTED = MOST_WORKERS // 4
"""The greatest number of workers to ask for: a reload has two generations of them, and others may still retire."""


def _default_workers() -> int:
    # At least two: while one is replaced, the other serves.
    return max(2, processors())


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(HttpSettings):
    """The settings of a server.

    Raises:
        ConfigError: A value is not allowed.
    """

    app: str = field(WELCOME, "Application to serve, as `MODULE:NAME`.", metavar="MODULE:NAME")
    bind: tuple[str, ...] = field(
        ("127.0.0.1:8000",),
        "Address to listen at: `HOST:PORT`, `[::1]:PORT`, `unix:PATH` or `fd://N`; repeatable. "
        "Sockets from socket activation come first, and replace the default address.",
        fixed=True,
    )
    workers: int = field(
        _default_workers,
        "Number of workers.",
        bounds=(1, MOST_WANTED),
        shown="one per usable processor, at least 2",
    )
    spare: int = field(
        0,
        "Extra workers that are ready, and get no connections until another worker dies.",
        bounds=(0, MOST_WANTED),
    )
    accept: str = field(
        "dispatcher",
        "Which process accepts connections: the `dispatcher`, which passes them to workers, or the `worker` whose "
        "turn it is (no custody).",
        choices=("dispatcher", "worker"),
        fixed=True,
    )
    custody: str = field(
        "on",
        "Keep connections open when their worker dies: another worker continues them. Always off with "
        "`--accept worker`.",
        choices=("on", "off"),
        fixed=True,
    )
    keeper: str = field(
        "auto",
        "Make the *keeper* the main process: if the dispatcher dies, the keeper makes another, which goes on with "
        "all connections. `auto` = where the system allows it; with `on`, the log says if it does not.",
        choices=("auto", "on", "off"),
        fixed=True,
    )
    orphan: str = field(
        "stop",
        "What the dispatcher does if the keeper is killed: `stop` as at SIGTERM; or `continue`: it becomes the "
        "keeper, and makes another dispatcher.",
        choices=("stop", "continue"),
        fixed=True,
    )
    replay: str = field(
        "safe",
        "Retry after a worker's death: `none` = only requests that the application never saw; `safe` = also GET, "
        "HEAD, OPTIONS, TRACE; `idempotent` = also PUT and DELETE. No request is retried once its response began.",
        choices=("none", "safe", "idempotent"),
        fixed=True,
    )
    resume: tuple[str, ...] = field(
        (),
        "Path of WebSockets and event streams, with all paths below it, that go on in another worker when theirs "
        "dies or retires: the application is called anew for each. Repeatable. Needs custody, and no TLS.",
        kind="prefixes",
        metavar="PATH",
        shown="none",
    )
    balance: str = field(
        "least",
        "Which worker gets the next connection: `least` = the worker with the fewest connections; `round-robin` = "
        "each worker in turn; `hash` = the same worker for the same client address.",
        choices=("least", "round-robin", "hash"),
        fixed=True,
    )
    interface: str = field(
        "auto",
        "How to call the application; `auto` = decided by its parameters.",
        choices=("auto", "asgi", "wsgi", "stream", "blocking", "listener"),
    )
    factory: bool = field(False, "Call NAME, and serve the application that the call returns.")
    loop: str = field(
        "auto",
        "Event loop of the workers; `auto` = uvloop if it is installed. Interface `listener` always uses asyncio.",
        choices=("auto", "uvloop", "asyncio"),
    )
    backlog: int = field(
        2048,
        "Greatest number of connections that wait to be accepted, per listener; the kernel caps it at "
        "`net.core.somaxconn`.",
        bounds=(1, 2**31 - 1),
        fixed=True,
    )
    max_connections: int = field(
        0,
        "Greatest number of open connections; 0 = as many as the limit on open files allows.",
        bounds=(0, 2**24),
        fixed=True,
    )
    tls_cert: str = field("", "PEM file of the certificate chain. Turns TLS on.", kind="path")
    tls_key: str = field("", "PEM file of the private key.", kind="path", shown="the file of `--tls-cert`")
    tls_ca: str = field(
        "",
        "PEM file of certificate authorities; each client must present a certificate from one of them.",
        kind="path",
    )
    proxy_protocol: bool = field(
        False, "Require a PROXY header (version 1 or 2) on each connection, and take the client's address from it."
    )
    user: str = field(
        "", "User to switch to after binding, by name or number; only root can.", kind="account", fixed=True
    )
    group: str = field(
        "",
        "Group to switch to after binding, by name or number.",
        kind="account",
        shown="the user's own",
        fixed=True,
    )
    graceful_timeout: float = field(
        30.0,
        "Seconds that a stopping or retiring worker has to finish its requests; unfinished ones are then cut.",
    )
    start_timeout: float = field(
        60.0, "Seconds that a worker has to become ready; a slower worker is killed.", bounds=(0.1, 1_000_000)
    )
    hang_timeout: float = field(
        30.0, "Seconds that a worker's event loop may be blocked before the worker is killed; 0 = no limit."
    )
    request_timeout: float = field(
        0.0,
        "Seconds after which a WSGI request hangs that has neither read nor sent anything (waiting for the client "
        "does not count). The log then gets the request and its thread's stack; when half of a worker's threads "
        "hang, the worker is replaced; 0 = never.",
    )
    keep_alive: float = field(5.0, "Seconds that an idle HTTP connection stays open.")
    header_timeout: float = field(
        15.0,
        "Seconds that an HTTP client has for the head of a request, from its first byte, or from the start of the "
        "connection; and before that for the TLS handshake. 0 = no limit.",
    )
    max_header_size: int = field(
        64 * 1024,
        "Greatest size of a request's head (bytes, or such as `128K`); a longer one is answered with 431.",
        kind="size",
        bounds=(8 * 1024, 16 * 1024 * 1024),
    )
    max_body_size: int = field(
        0,
        "Greatest size of a request's body (bytes, or such as `10M`); a larger one is answered with 413; 0 = no "
        "limit.",
        kind="size",
    )
    max_requests: int = field(
        0, "Replace a worker after this many requests (connections, if it serves no HTTP); 0 = never."
    )
    max_rss: int = field(
        0,
        "Replace a worker whose resident memory exceeds this (bytes, or such as `500M`); 0 = never.",
        kind="size",
    )
    access_log: str = field(
        "",
        "File that gets a line per HTTP request or WebSocket; `-` = standard output.",
        kind="path",
        shown="`-` for `fdpass serve` on a terminal, else none",
    )
    log_level: str = field(
        "info", "Least severe level to log.", choices=("debug", "info", "warning", "error", "critical")
    )
    log_json: bool = field(False, "Write the log and the access log as JSON, one object a line.")
    log_config: str = field(
        "",
        "File with a configuration for Python's `logging.config`: JSON, TOML (`.toml`) or YAML (`.yaml`, with "
        "PyYAML) for `dictConfig`, INI (`.ini`, `.conf`) for `fileConfig`; each process applies it after "
        "`--log-level` and `--log-json`.",
        kind="path",
    )
    pidfile: str = field(
        "", "File with the main process's ID, which signals need; removed at the end.", kind="path", fixed=True
    )
    control: str = field(
        "",
        "Control socket, to which `fdpass status`, `reload`, `scale`, `stop` and `workers` connect. If another "
        "server has the default path, the address is added to it.",
        kind="path",
        metavar="PATH",
        fixed=True,
        shown="fdpass.sock in $XDG_RUNTIME_DIR, else in /run for root, else in /tmp/fdpass-UID",
    )
    dashboard: str = field(
        "",
        "Address `HOST:PORT` of a dashboard, which runs as a process of its own beside the server: see `fdpass "
        "dashboard`.",
        metavar="HOST:PORT",
        shown="none",
        fixed=True,
    )
    app_dir: str = field(".", "Folder to import the application from.", kind="path", metavar="FOLDER")
    threads: int = field(
        10, "Number of WSGI requests that a worker runs at a time, each in a thread.", bounds=(1, 1000)
    )
    underscore_headers: bool = field(
        False,
        "Give a WSGI application headers whose names have underscores. A client can use such a header to imitate "
        "one that only a proxy may set: `X_User` for `X-User`.",
    )
    lifespan: str = field(
        "auto",
        "ASGI lifespan: `on` = the application must support it; `off` = not run; `auto` = run if supported.",
        choices=("auto", "on", "off"),
    )

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            object.__setattr__(self, each.name, typed(each.name, getattr(self, each.name)))
        app_name.check(self.app)
        for name, setting in SETTINGS.items():
            check_range(name, setting, getattr(self, name))
        self._check_http()
        self._check_reload()
        if (self.tls_key or self.tls_ca) and not self.tls_cert:
            raise ConfigError("--tls-key and --tls-ca need --tls-cert, the server's own certificate")
        if self.access_log_format and self.log_json:
            raise ConfigError("--access-log-format cannot be combined with --log-json, which is a format itself")
        if self.resume and not self.keeps:
            raise ConfigError("--resume needs custody, which --custody off and --accept worker turn off")
        if self.resume and self.tls_cert:
            raise ConfigError("--resume cannot be combined with --tls-cert: a TLS session ends with its worker")
        if not os.path.isdir(self.app_dir):
            raise ConfigError(f"--app-dir {self.app_dir!r} is not a folder")

    @property
    def keeps(self) -> bool:
        """Whether the dispatcher keeps connections in custody."""
        return self.custody == "on" and self.accept == "dispatcher"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Make a record from a mapping of names to values.

        Raises:
            ConfigError: A name is unknown, or a value is not allowed.
        """
        for name in options:
            check_name(name)
        return cls(**options)


_FIELDS = Config.__dataclass_fields__

SETTINGS: dict[str, Setting] = {  # a dataclass has the fields that it inherits first
    name: _FIELDS[name].metadata["setting"]
    for name in sorted(_FIELDS, key=lambda name: name not in Config.__annotations__)
}
"""Each setting's properties by its name, in the order of the fields: those that `Config` inherits come last."""

NAMES = tuple(SETTINGS)

FIXED = tuple(name for name, setting in SETTINGS.items() if setting.fixed)
"""The settings that a reload leaves as they are."""


def _attributes() -> str:
    lines = (f"{name}: {setting.help}" for name, setting in SETTINGS.items())
    return "\n".join(textwrap.fill(line, 100, initial_indent=" " * 4, subsequent_indent=" " * 8) for line in lines)


if Config.__doc__:  # python -OO has none
    Config.__doc__ = f"{inspect.cleandoc(Config.__doc__)}\n\nAttributes:\n{_attributes()}\n"


def check_name(name: str) -> None:
    """Refuse the name of a setting that does not exist.

    Raises:
        ConfigError: It does not exist; the sentence suggests the nearest name.
    """
    if name not in NAMES:
        import difflib  # noqa: PLC0415 - large, and no worker needs it

        near = ["bind"] if name in {"host", "port", "uds", "fd"} else difflib.get_close_matches(name, NAMES, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"there is no setting {name!r}{hint}")


def typed(name: str, value: Any) -> Any:
    """Convert a value from Python or TOML to the type of its setting.

    Raises:
        ConfigError: The value is of another type.
    """
    return convert(name, SETTINGS[name], value)
