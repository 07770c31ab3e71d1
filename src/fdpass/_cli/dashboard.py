"""``fdpass dashboard``: a live page, Prometheus metrics and health checks of running servers."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from typing import Any

import click

from fdpass._cli.common import Failure, sentence
from fdpass._cli.streams import echo
from fdpass._dashboard.settings import DEFAULT_BIND, Settings
from fdpass._supervision.logs import line_handler
from fdpass.errors import ConfigError
from fdpass.serve.operator import servers

_NICE = 5  # see nice(2)


@click.command(
    epilog="""Paths: / (the page), /metrics, /livez, /readyz, /status.json. /livez and /readyz take ?server=NAME.

Examples:

\b
  fdpass dashboard
  fdpass dashboard --allow-actions
  fdpass dashboard --control shop=/run/shop.sock --control chat=/run/chat.sock
  fdpass dashboard --bind 0.0.0.0:9100 --agent-check 0.0.0.0:9101""",
)
@click.option(
    "--bind",
    default=DEFAULT_BIND,
    show_default=True,
    metavar="HOST:PORT",
    envvar="FDPASS_DASHBOARD_BIND",
    help="Address to listen at.",
)
@click.option(
    "--control",
    "controls",
    multiple=True,
    metavar="[NAME=]PATH",
    envvar="FDPASS_CONTROL",
    help="Control socket of a server. Can be repeated.  [default: all running servers of this user]",
)
@click.option(
    "--agent-check",
    "agent_checks",
    multiple=True,
    metavar="[NAME=]HOST:PORT",
    envvar="FDPASS_DASHBOARD_AGENT_CHECK",
    help="Answer HAProxy's agent-check at this address, for one server. Can be repeated.",
)
@click.option(
    "--capacity",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    envvar="FDPASS_DASHBOARD_CAPACITY",
    help="Number of connections at which the agent-check's weight is least.  [default: the server's limit]",
)
@click.option(
    "--allow-actions",
    is_flag=True,
    envvar="FDPASS_DASHBOARD_ALLOW_ACTIONS",
    help="Let the page reload, scale and retire, for those who have the token.",
)
@click.option(
    "--token",
    default="",
    metavar="TEXT",
    envvar="FDPASS_DASHBOARD_TOKEN",
    help="Token of --allow-actions. Other users see it in the list of processes: the environment is safer.  "
    "[default: a new one, printed in the URL]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False),
    default="info",
    show_default=True,
    help="Least level of the lines that are logged.",
)
@click.option("--log-json", is_flag=True, help="Log JSON, one object per line.")
@click.option(
    "--while-open",
    type=click.IntRange(min=0),
    metavar="FD",
    help="End when the other end of this socket is closed, log the URL instead of printing it, and wait for an "
    "address that is in use: for a program that starts the dashboard, as fdpass serve --dashboard does.",
)
def dashboard(
    *, allow_actions: bool, token: str, log_level: str, log_json: bool, while_open: int | None, **options: Any
) -> None:
    """Show running servers on a live page, as Prometheus metrics, and as health checks.

    The dashboard is a process of its own, which asks the servers once a second over their control sockets. SIGTERM
    and SIGINT end it.
    """
    try:
        from fdpass._dashboard.run import run  # noqa: PLC0415 - --help needs none of it
    except ImportError as error:
        raise Failure(f"{sentence(error)}: install it with pip install 'fdpass[dashboard]'") from error
    if token and not allow_actions:
        raise click.UsageError("--token needs --allow-actions")
    logger = logging.getLogger("fdpass")
    logger.handlers[:] = [line_handler(as_json=log_json)]
    logger.propagate = False
    logger.setLevel(log_level.upper())
    options["controls"] = options["controls"] or [path for path, _ in servers.running()]
    token = (token or secrets.token_urlsafe(24)) if allow_actions else ""
    try:
        settings = Settings.of(**options, token=token)
        if while_open is None:
            asyncio.run(run(settings, lambda url: echo(f"The dashboard: {url}")))
        else:
            os.nice(_NICE)  # the server goes first
            with socket.socket(fileno=while_open) as parent:
                asyncio.run(run(settings, lambda url: logger.info("dashboard: %s", url), parent))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
