"""`Dashboard`: `fdpass dashboard` as a child of a server: started again after a failure, ended with the server.

The child asks the server over the control socket, as it would from elsewhere. The server never waits for it.
"""

from __future__ import annotations

import importlib.util
import logging
import select
import signal
import socket
import time

from fdpass._supervision.addresses import parse
from fdpass._supervision.backoff import Backoff
from fdpass._supervision.loop import Loop
from fdpass.errors import ConfigError, FdpassError
from fdpass.serve.dispatcher.pool.process import Child, describe_status, start
from fdpass.serve.shared.config import Config

log = logging.getLogger("fdpass.serve")

_NEEDS = ("httptools", "prometheus_client", "uvicorn")
_LONG = 10.0  # seconds: a dashboard that has run so long was started well
_USAGE = 2  # exit code of a command with wrong options
_PATIENCE = 1.0  # seconds from SIGTERM to SIGKILL


def check(address: str) -> None:
    """Check ``--dashboard``; "" for none. The address is not bound.

    Raises:
        ConfigError: The address is malformed, or a package is missing.
    """
    if not address:
        return
    parse(address, f"--dashboard {address!r}", "HOST:PORT or [::1]:PORT")
    for name in _NEEDS:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"--dashboard needs {name}: install it with pip install 'fdpass[dashboard]'")


class Dashboard:
    """The child process.

    It has one end of a socket pair, and ends when the other end is closed: also when the server is killed.

    Args:
        loop: Event loop; watches for the child's end.
        config: The settings of the server.
        control: The path of the control socket.
    """

    def __init__(self, loop: Loop, config: Config, control: str) -> None:
        self._loop = loop
        self._arguments = ["dashboard", "--bind", config.dashboard, "--control", control]
        self._arguments += ["--log-level", config.log_level, *(["--log-json"] if config.log_json else [])]
        self._backoff = Backoff(loop, self._start)
        self._child: Child | None = None
        self._ours: socket.socket | None = None
        self._started_at = 0.0
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                child = start("fdpass", theirs, arguments=[*self._arguments, "--while-open"])
            except FdpassError as error:
                ours.close()
                seconds = self._backoff.failed()
                why = getattr(error, "strerror", None) or error
                log.warning("the dashboard could not be started: %s; trying again in %.1f s", why, seconds)
                return
        self._ours, self._child, self._started_at = ours, child, time.monotonic()
        self._loop.watch(child.pidfd.fileno(), self._on_end)

    def _on_end(self) -> None:
        if time.monotonic() - self._started_at > _LONG:
            self._backoff.succeeded()
        status = self._reap()
        how = describe_status(status)
        if status == _USAGE:
            log.error("there is no dashboard: its settings (FDPASS_DASHBOARD_...) are wrong, as lines before say")
            return
        log.warning("the dashboard ended (%s); it is started again in %.1f s", how, self._backoff.failed())

    def _reap(self) -> int:
        assert self._child is not None
        assert self._ours is not None
        self._loop.unwatch(self._child.pidfd.fileno())
        self._ours.close()
        child, self._child = self._child, None
        return child.reap()

    def close(self) -> None:
        """End the child: with SIGTERM, and with SIGKILL if it has not ended a second later."""
        self._backoff.cancel()
        if self._child is None:
            return
        self._child.signal(signal.SIGTERM)
        poller = select.poll()
        poller.register(self._child.pidfd, select.POLLIN)
        poller.poll(_PATIENCE * 1000)
        self._child.signal(signal.SIGKILL)
        self._reap()
