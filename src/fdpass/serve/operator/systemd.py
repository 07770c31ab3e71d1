"""`Notifier`: tells the service manager that started us what the server does.

The protocol is that of sd_notify(3): datagrams of ``NAME=value`` lines to the Unix socket ``NOTIFY_SOCKET``; there
are no answers. Nothing here waits or fails while the server runs: what cannot be told at once is not told.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import MutableMapping
from typing import Self

from fdpass._errors import translated

_LOG = logging.getLogger("fdpass.serve")
_STATUS_MAX = 2048  # systemd ignores a datagram of more than 4096 bytes, READY=1 and all
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")  # a newline would begin another field, and systemd refuses NUL
_FOREVER = 2**64 - 1  # USEC_INFINITY


class Notifier:
    """A line to the service manager; to nobody, if it gave no address.

    Args:
        address: A Unix datagram socket: a path from ``/``, or ``@`` and an abstract name. If it is empty, each
            call does nothing; if it is another kind of address, this is logged, too.
        watchdog: Seconds between two calls of `alive`; None if nobody wants them.

    Attributes:
        watchdog: As given; None as well if there is nobody to tell.

    Raises:
        CallFailed: No socket can be made (EMFILE).
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._sock: socket.socket | None = None
        if address.startswith(("/", "@")):
            try:
                self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            except OSError as error:
                raise translated(error, "cannot make a socket for the service manager") from error
        elif address:
            _LOG.warning(
                "NOTIFY_SOCKET=%r is neither a path nor @name: the service manager is told nothing", address
            )
        self.watchdog = watchdog if self._sock else None
        self._failing = False

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """By NOTIFY_SOCKET, and WATCHDOG_USEC unless WATCHDOG_PID names another process (sd_watchdog_enabled(3)).

        The variables are removed from the environment, so that no child takes them for its own.

        Raises:
            CallFailed: No socket can be made (EMFILE).
        """
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        address, usec, pid = (environ.pop(name, "") for name in names)
        if pid and pid != str(os.getpid()):
            usec = ""
        limit = int(usec) if re.fullmatch("[0-9]{1,20}", usec) else 0
        # Half of it, as the man page recommends: one call that comes late is no death.
        return cls(address, limit / 2e6 if 0 < limit < _FOREVER else None)

    def ready(self, status: str) -> None:
        """The server serves: it has started, or a reload is through."""
        self._tell("READY=1", _status(status))

    def reloading(self) -> None:
        """A reload has begun; `ready` will tell its end. As systemd's ``Type=notify-reload`` wants it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """The server has begun to stop."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """What the server does, for humans: one line; what is beyond 2048 bytes is cut."""
        self._tell(_status(text))

    def alive(self) -> None:
        """A sign of life, due every `watchdog` seconds."""
        self._tell("WATCHDOG=1")

    def close(self) -> None:
        """Close the socket; from then on each call does nothing. Twice does nothing."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _tell(self, *fields: str) -> None:
        if self._sock is None:
            return
        try:
            # Addressed anew each time: a manager that was away for a while is found again.
            self._sock.sendto("\n".join(fields).encode(), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            if not self._failing:
                _LOG.warning("the service manager could not be told %s: %s", fields[0], error)
            self._failing = True
        else:
            self._failing = False


def _status(text: str) -> str:
    line = _CONTROL.sub(" ", text).encode("utf-8", "replace")  # systemd wants UTF-8: no surrogates
    return "STATUS=" + line[:_STATUS_MAX].decode("utf-8", "ignore")
