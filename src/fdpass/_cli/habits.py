"""What ``fdpass serve`` answers to options and settings of uvicorn and gunicorn that have no place in it.

Those that are other names of a setting are in `aliases`.
"""

from __future__ import annotations

from collections.abc import Iterable

from fdpass._cli.aliases import ALIASES

_KINDS = "leave it out; fdpass finds out whether the application is ASGI or WSGI; to say it, use --interface"
_TIMEOUT = "use --hang-timeout for a blocked event loop, or --request-timeout for a WSGI request that hangs"
_STANDARD_ERROR = "the log goes to standard error; to write it elsewhere, use --log-config"
_CLIENTS = "use --tls-ca, with which each client has to show a certificate"
_TLS = "fdpass uses the defaults of Python's ssl module; for other ones, let a proxy speak TLS"
_HTTP2 = "fdpass speaks HTTP/1.1; for HTTP/2 put a proxy in front"
_HEAD = "use --max-header-size, which bounds the whole head of a request"
_STATSD = "leave it out; nothing is sent to StatsD; fdpass status --json has the figures"
_FOREGROUND = "leave it out; the server stays in the foreground; run it under systemd or another supervisor"
_IMPORTS = "leave it out; each worker imports the application itself"
_ENVIRONMENT = "set variables before the start, or use --env-file"
_WEBSOCKETS = "leave it out; the package websockets is used if it is installed, else wsproto"
_STRICT = "fdpass refuses malformed requests, and has no option that lets them pass"
_PARSER = "leave it out; fdpass speaks HTTP/1.1 itself, with the parser of httptools"
_FILE_ONLY = "write the settings in a TOML file, and use --config"

_HINTS = {
    "-k": _KINDS,
    "--worker-class": _KINDS,
    "--reload-delay": "leave it out; --reload reacts to the kernel's reports, at once",
    "--reload-engine": "leave it out; --reload uses watchfiles",
    "--reload-extra-file": "use --reload-include, and --reload-dir for a file elsewhere",
    "-t": _TIMEOUT,
    "--timeout": _TIMEOUT,
    "--timeout-worker-healthcheck": "use --hang-timeout",
    "--worker-connections": "use --max-connections for all workers together, or --limit-concurrency for each",
    "--h11-max-incomplete-event-size": _HEAD,
    "--limit-request-line": _HEAD,
    "--limit-request-fields": _HEAD,
    "--limit-request-field_size": _HEAD,
    "--ssl-ca-certs": _CLIENTS,
    "--ca-certs": _CLIENTS,
    "--ssl-cert-reqs": _CLIENTS,
    "--cert-reqs": _CLIENTS,
    "--ssl-keyfile-password": "the key must have no password: write it without one, with openssl pkey",
    "--ssl-version": _TLS,
    "--ssl-ciphers": _TLS,
    "--ciphers": _TLS,
    "--suppress-ragged-eofs": _TLS,
    "--do-handshake-on-connect": _TLS,
    "--http2": _HTTP2,
    "--http-protocols": _HTTP2,
    "--protocol": _HTTP2,
    "--ws": _WEBSOCKETS,
    "--ws-max-queue": _WEBSOCKETS,
    "--ws-per-message-deflate": "leave it out; WebSockets are compressed if the client agrees",
    "--error-logfile": _STANDARD_ERROR,
    "--log-file": _STANDARD_ERROR,
    "--capture-output": _STANDARD_ERROR,
    "--logger-class": _STANDARD_ERROR,
    "--disable-redirect-access-to-syslog": _STANDARD_ERROR,
    "--use-colors": "leave it out; colours are on at a terminal, unless NO_COLOR is set",
    "--no-use-colors": "set NO_COLOR=1 in the environment",
    "--server-header": "use --header Server:NAME; without it, no Server header is sent",
    "--forwarder-headers": "use --forwarded-headers; for SCRIPT_NAME, use --root-path",
    "--proxy-allow-from": "with --proxy-protocol each client must send a PROXY header: let only the proxy connect",
    "--header-map": "headers whose names have underscores are dropped; to keep them, use --underscore-headers",
    "--chdir": "use --app-dir",
    "--pythonpath": "use --app-dir",
    "-e": _ENVIRONMENT,
    "--env": _ENVIRONMENT,
    "-D": _FOREGROUND,
    "--daemon": _FOREGROUND,
    "--preload": _IMPORTS,
    "--preload-app": _IMPORTS,
    "--reset-contextvars": "leave it out; each request gets a copy of the context that its worker has",
    "--dogstatsd-tags": _STATSD,
    "--enable-backlog-metric": _STATSD,
    "--reuse-port": "leave it out; the dispatcher alone listens; workers get its connections",
    "--no-sendfile": "leave it out; fdpass uses sendfile(2) where the application sends a file",
    "--worker-tmp-dir": "leave it out; workers show that they live in shared memory, without a file",
    "-m": "set the umask before the start, as umask 027",
    "--umask": "set the umask before the start, as umask 027",
    "--initgroups": "leave it out; with --user, the server has all groups of the user",
    "--spew": "run the application under a debugger instead",
    "-R": "leave it out; workers have the standard streams of the server",
    "--enable-stdio-inheritance": "leave it out; workers have the standard streams of the server",
    "-n": "leave it out; processes are named by their command; fdpass status lists them",
    "--name": "leave it out; processes are named by their command; fdpass status lists them",
    "--paste": _FILE_ONLY,
    "--paster": _FILE_ONLY,
    "--paste-global": _FILE_ONLY,
    "--uwsgi-allow-from": "the uwsgi protocol is not spoken; let the proxy speak HTTP/1.1",
    "--http-parser": _PARSER,
    "--permit-obsolete-folding": _STRICT,
    "--strip-header-spaces": _STRICT,
    "--permit-unconventional-http-method": _STRICT,
    "--permit-unconventional-http-version": _STRICT,
    "--casefold-http-method": _STRICT,
    "--asgi-disconnect-grace-period": "use --graceful-timeout",
    "--control-socket": "use --control",
    "--control-socket-mode": "leave it out; only the server's user and root can use the control socket",
    "--no-control-socket": "leave it out; only the server's user and root can use the control socket",
}

_HINTS_BY_START = {
    "--statsd-": _STATSD,
    "--http2-": _HTTP2,
    "--dirty-": "fdpass has no dirty workers; run long work in a task queue",
    "--log-syslog": "the log goes to standard error; to send it to syslog, use --log-config",
}


_VALUES = {
    (
        "interface",
        "asgi2",
    ): "fdpass calls ASGI 3; asgiref.compatibility makes such an application of one for ASGI 2",
    ("interface", "asgi3"): "write asgi, which is version 3",
    ("log_level", "trace"): "write debug, which is the lowest level",
    ("loop", "none"): "write auto or asyncio",
}

_OPTIONS_OF_NAMES = {  # settings of gunicorn whose names differ from those of their options
    "proc_name": "--name",
    "default_proc_name": "--name",
    "raw_env": "--env",
    "errorlog": "--error-logfile",
    "reload_extra_files": "--reload-extra-file",
    "sendfile": "--no-sendfile",
    "proxy_allow_ips": "--proxy-allow-from",
    "uwsgi_allow_ips": "--uwsgi-allow-from",
    "limit_request_field_size": "--limit-request-field_size",
    "raw_paste_global_conf": "--paste-global",
    "control_socket_disable": "--no-control-socket",
    "secure_scheme_headers": "--forwarder-headers",
    "ssl_context": "--ssl-version",
    "http": "--http-parser",
    **dict.fromkeys(("syslog", "syslog_addr", "syslog_facility", "syslog_prefix"), "--log-syslog"),
}

_COUNTERPARTS = {  # settings of both servers that fdpass calls otherwise
    "accesslog": "access_log",
    "keepalive": "keep_alive",
    "loglevel": "log_level",
    "logconfig": "log_config",
    "logconfig_dict": "log_config",
    "wsgi_app": "app",
    "headers": "header",
    "reload_dirs": "reload_dir",
    "reload_includes": "reload_include",
    "reload_excludes": "reload_exclude",
    "logconfig_json": "log_config",
    "proxy_headers": "forwarded_allow_ips",
    **{
        alias.option.strip("-").replace("-", "_"): alias.setting
        for alias in ALIASES
        if alias.is_shown and alias.setting
    },
}


def hint_for(option: str) -> str | None:
    """Return what to use instead of an option of uvicorn or gunicorn; None if the option is none of theirs."""
    if option in _HINTS:
        return _HINTS[option]
    return next((hint for start, hint in _HINTS_BY_START.items() if option.startswith(start)), None)


def hint_for_value(name: str | None, value: str) -> str | None:
    """Return what to use instead of a value that a setting has in uvicorn or gunicorn; None if it is none."""
    return _VALUES.get((name or "", value.lower()))


def hint_for_name(name: str) -> str | None:
    """Return what to use instead of a setting of uvicorn or gunicorn; None if the setting is none of theirs."""
    if name in _COUNTERPARTS:
        return f"did you mean {_COUNTERPARTS[name]!r}?"
    return hint_for(_OPTIONS_OF_NAMES.get(name, "--" + name.replace("_", "-")))


def refused(args: Iterable[str]) -> list[str]:
    """Write a sentence about each option of uvicorn or gunicorn in a command line that has no place in it."""
    found = {}
    for arg in args:
        if arg == "--":
            break
        option = arg.partition("=")[0] if arg.startswith("--") else arg[:2]
        if hint := hint_for(option):
            found[option] = f"No such option '{option}': {hint}."
    return [*found.values()]
