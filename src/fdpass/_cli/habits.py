"""What ``fdpass serve`` answers to options of uvicorn and gunicorn that it does not have."""

from __future__ import annotations

_ADDRESS = "use --bind HOST:PORT"
_KINDS = "fdpass finds out whether the application is ASGI or WSGI; to say it, use --interface"
_PROXY = "headers such as X-Forwarded-For are not read; use --proxy-protocol, or a middleware of the application"
_TIMEOUT = "use --hang-timeout for a blocked event loop, or --request-timeout for a WSGI request that hangs"
_RELOAD = "files are not watched; to load new code, run fdpass reload, or send SIGHUP to the server"
_STANDARD_ERROR = "the log goes to standard error; to write it elsewhere, use --log-config"

_HINTS = {
    "--host": _ADDRESS,
    "--port": _ADDRESS,
    "-b": _ADDRESS,
    "--uds": "use --bind unix:PATH",
    "--fd": "use --bind fd://N",
    "-w": "use --workers",
    "-k": _KINDS,
    "--worker-class": _KINDS,
    "--reload": _RELOAD,
    "--reload-dir": _RELOAD,
    "-t": _TIMEOUT,
    "--timeout": _TIMEOUT,
    "--timeout-keep-alive": "use --keep-alive",
    "--timeout-graceful-shutdown": "use --graceful-timeout",
    "--timeout-worker-healthcheck": "use --hang-timeout",
    "--limit-concurrency": "use --max-connections",
    "--worker-connections": "use --max-connections",
    "--limit-max-requests": "use --max-requests",
    "--h11-max-incomplete-event-size": "use --max-header-size",
    "--ssl-certfile": "use --tls-cert",
    "--certfile": "use --tls-cert",
    "--ssl-keyfile": "use --tls-key",
    "--keyfile": "use --tls-key",
    "--ssl-ca-certs": "use --tls-ca",
    "--ca-certs": "use --tls-ca",
    "--access-logfile": "use --access-log",
    "--no-access-log": "there is no access log unless --access-log is given",
    "--error-logfile": _STANDARD_ERROR,
    "--log-file": _STANDARD_ERROR,
    "--proxy-headers": _PROXY,
    "--forwarded-allow-ips": _PROXY,
    "--root-path": "use FastAPI(root_path=...); for WSGI set the environment variable SCRIPT_NAME",
    "--chdir": "use --app-dir",
    "--pid": "use --pidfile",
    "-p": "use --pidfile",
    "-u": "use --user",
    "-g": "use --group",
    "--env-file": "set the variables before the start: set -a; . ./FILE; set +a",
    "-D": "the server stays in the foreground; run it under systemd or another supervisor",
    "--daemon": "the server stays in the foreground; run it under systemd or another supervisor",
    "--preload": "each worker imports the application itself",
    "--preload-app": "each worker imports the application itself",
}


def hint_for(option: str) -> str | None:
    """Return what to use instead of an option of uvicorn or gunicorn; None if the option is none of theirs."""
    return _HINTS.get(option)
