"""`HttpSettings`: settings of HTTP that `Config` inherits: what the server adds, limits, and WebSockets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fdpass.errors import ConfigError
from fdpass.serve.shared.proxies import DEFAULT, Proxies
from fdpass.serve.shared.reload_settings import ReloadSettings
from fdpass.serve.shared.setting import field

_ROOT_PATH = re.compile(r"(/[!$&-.0-9:;=@-Z_a-z~]+)*").fullmatch  # RFC 3986, 3.3, without percent-encoding
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*:[ \t]*([\t -~]*)").fullmatch  # RFC 9110, 5.1 and 5.5
_OWN_HEADERS = {  # by the server itself: what to do instead of --header
    "connection": "the server decides when a connection ends",
    "content-length": "the server or the application measures each body",
    "transfer-encoding": "the server decides how a body is framed",
    "date": "to leave the server's out, use --no-date-header",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings(ReloadSettings):
    """The settings of HTTP that were added for people who come from uvicorn or gunicorn."""

    root_path: str = field(
        "",
        "Path below which a proxy serves the application, and which the proxy removes from each request: the ASGI "
        "`root_path`, for WSGI `SCRIPT_NAME`.",
        metavar="PATH",
    )
    forwarded_allow_ips: str = field(
        DEFAULT,
        "Proxies whose headers about the client are believed: addresses, networks such as `10.0.0.0/8`, `unix` ="
        " clients of Unix sockets, `*` = all; with commas between; empty = none.",
        metavar="LIST",
    )
    forwarded_headers: str = field(
        "auto",
        "Headers that these proxies set: `x-forwarded` = X-Forwarded-For, -Proto, -Host; `forwarded` = that of "
        "RFC 7239; `auto` = X-Forwarded-For and -Proto, else Forwarded, and no host.",
        choices=("auto", "x-forwarded", "forwarded"),
    )
    header: tuple[str, ...] = field(
        (), "Header to add to each response. Repeatable.", kind="headers", metavar="NAME:VALUE", shown="none"
    )
    no_date_header: bool = field(False, "Send no `Date` header.")
    limit_concurrency: int = field(
        0,
        "Greatest number of requests in progress in a worker, WebSockets included; a further request is answered "
        "with 503; 0 = no limit.",
    )
    max_requests_jitter: int = field(
        0, "Greatest random number that is added to `--max-requests`, anew for each worker.", bounds=(0, 2**31)
    )
    ws_max_size: int = field(
        16 * 1024 * 1024,
        "Greatest size of a WebSocket message from a client (bytes, or such as `1M`); a larger one closes the "
        "WebSocket with code 1009.",
        kind="size",
        bounds=(1, 2**40),
    )
    ws_ping_interval: float = field(20.0, "Seconds between two pings to a WebSocket's client; 0 = no pings.")
    ws_ping_timeout: float = field(
        20.0,
        "Seconds that a WebSocket's client has to answer a ping before the WebSocket is closed; 0 = no limit.",
    )
    access_log_format: str = field(
        "",
        "Format of the access log's lines, with gunicorn's atoms: `%(h)s`, `%(a)s` and others.",
        metavar="FORMAT",
        shown="the Common Log Format with the worker's process number",
    )
    env_file: str = field(
        "",
        "File with environment variables, `NAME=value` a line, for the workers and for the settings. Variables "
        "that are set already stay as they are.",
        kind="path",
    )

    def _check_http(self) -> None:
        """Refuse values that are not allowed; leave out a slash at the end of `root_path`.

        Raises:
            ConfigError: One is not.
        """
        object.__setattr__(self, "root_path", self.root_path.rstrip("/"))
        if not _ROOT_PATH(self.root_path):
            raise ConfigError(
                f"--root-path {self.root_path!r}: write a path such as /shop, without percent-encoding"
            )
        header_pairs(self.header)
        if self.forwarded_allow_ips != DEFAULT:
            Proxies(self.forwarded_allow_ips)
        if self.access_log_format:
            from fdpass.serve.shared.access_log_format import compiled  # noqa: PLC0415 - few servers need it

            compiled(self.access_log_format)


def header_pairs(headers: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    """Return names, in lower case, and values of the headers of ``--header``.

    Raises:
        ConfigError: One cannot be sent, or is the server's own.
    """
    pairs = []
    for text in headers:
        match = _HEADER(text)
        if match is None:
            raise ConfigError(f"--header {text!r}: write NAME:VALUE, such as X-Frame-Options:DENY, in ASCII")
        name = match[1].lower()
        if name in _OWN_HEADERS:
            raise ConfigError(f"--header {text!r} is not allowed: {_OWN_HEADERS[name]}")
        pairs.append((name.encode(), match[2].rstrip(" \t").encode()))
    return pairs
