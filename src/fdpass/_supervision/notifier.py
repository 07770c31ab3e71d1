"""`Notifier`: tells the service manager the state of a main process, as sd_notify(3) describes.

A notification is a datagram of ``NAME=value`` lines to the Unix socket ``NOTIFY_SOCKET``; there is no answer. No
method waits, or raises while the process runs: a notification that cannot be sent at once is dropped.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, Self

from fdpass._errors import translated

log = logging.getLogger("fdpass.serve")
_STATUS_MAX = 2048  # systemd ignores a whole datagram of more than 4096 bytes
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")  # a newline would begin another field, and systemd refuses NUL
_FOREVER = 2**64 - 1  # USEC_INFINITY


class Notifier:
    """Sends notifications to the service manager, if there is one.

    Args:
        address: A Unix datagram socket: a path from ``/``, or ``@`` and an abstract name. With "" or another kind
            of address no method does anything; another kind is logged.
        watchdog: Seconds between two calls of `alive`; None without a watchdog.

    Attributes:
        watchdog: As given; None also without a service manager.

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
            log.warning(
                "NOTIFY_SOCKET=%r is neither a path nor @name: the service manager gets no notifications", address
            )
        self.watchdog = watchdog if self._sock else None
        self._failing = False

    @property
    def is_heard(self) -> bool:
        """Whether there is a service manager."""
        return self._sock is not None

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> Self:
        """Make one from NOTIFY_SOCKET, and from WATCHDOG_USEC unless WATCHDOG_PID names another process.

        See sd_watchdog_enabled(3). The variables are removed, so that no child uses them.

        Raises:
            CallFailed: No socket can be made (EMFILE).
        """
        names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        address, usec, pid = (environ.pop(name, "") for name in names)
        if pid and pid != str(os.getpid()):
            usec = ""
        limit = int(usec) if re.fullmatch("[0-9]{1,20}", usec) else 0
        # Half of the limit, as the man page recommends: one late call does not reach it.
        return cls(address, limit / 2e6 if 0 < limit < _FOREVER else None)

    def handed_over(self) -> dict[str, Any]:
        """What `found` needs, in a process that shares its descriptors with this one."""
        sock = self._sock
        return {"address": self._address, "watchdog": self.watchdog, "fd": -1 if sock is None else sock.fileno()}

    @classmethod
    def found(cls, known: Mapping[str, Any]) -> Self:
        """Make one with the socket of another one, lent. See `handed_over`."""
        notifier = cls()
        notifier._address, notifier.watchdog = known["address"], known["watchdog"]
        if known["fd"] >= 0:
            notifier._sock = socket.socket(fileno=known["fd"])
        return notifier

    def ready(self, status: str) -> None:
        """Notify that the server serves: it has started, or a reload has ended."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """Notify that a reload has begun, as ``Type=notify-reload`` requires; `ready` notifies its end."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """Notify that the server has begun to stop."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Send one line for people about the state of the server; it is cut after 2048 bytes."""
        self._send(_status(text))

    def alive(self) -> None:
        """Notify the watchdog, which must happen every `watchdog` seconds."""
        self._send("WATCHDOG=1")

    def relay(self, *fields: str) -> None:
        """Send assignments as they are: each one a line of at most 2048 bytes."""
        if fields:
            self._send(*fields)

    def close(self) -> None:
        """Close the socket; afterwards no method does anything."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _send(self, *fields: str) -> None:
        if self._sock is None:
            return
        try:
            # Not connected: a manager that binds the address again gets the next notification.
            self._sock.sendto("\n".join(fields).encode(), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            if not self._failing:
                log.warning("cannot notify the service manager of %s: %s", fields[0], error)
            self._failing = True
        else:
            self._failing = False


def _status(text: str) -> str:
    line = _CONTROL.sub(" ", text).encode("utf-8", "replace")  # systemd wants UTF-8: no surrogates
    return "STATUS=" + line[:_STATUS_MAX].decode("utf-8", "ignore")
