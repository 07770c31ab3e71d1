"""Notifications to the service manager, which the keeper sends for the dispatcher.

With ``NotifyAccess=main`` systemd drops what another process sends. So a dispatcher writes each notification into
a socket, whose other end the keeper reads.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time

from fdpass._supervision.notifier import Notifier
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.requests import NOTICE

_FRESH_SECONDS = 1.0  # a beat comes ten times a second
_AGAIN_SECONDS = 0.1  # until a beat is looked for again that is too old
_LONGEST = 65536  # bytes


class Notices:
    """What the keeper does: it sends what a dispatcher has written, and notifies the watchdog.

    Args:
        notifier: Sends. Lent.
        estate: Has the sockets, and the dispatcher's beat. Lent.

    Attributes:
        due: When `send` has to be called, on the monotonic clock.
    """

    def __init__(self, notifier: Notifier, estate: Estate) -> None:
        self._notifier = notifier
        self._estate = estate
        self.due = 0.0 if notifier.watchdog else float("inf")

    def open(self) -> None:
        """Make the sockets, unless there are some, or no service manager is there."""
        head = self._estate.head
        if self._notifier.is_heard and not head[Head.NOTICES]:
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            head[Head.NOTICES_END], head[Head.NOTICES] = (end.detach() + 1 for end in ends)

    def send(self) -> None:
        """Send what dispatchers have written; and WATCHDOG=1 if it is due, and the dispatcher's beat is fresh."""
        if (number := self._estate.take_fd(Head.NOTICES_END)) < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while data := os.read(number, _LONGEST):
                self._notifier.relay(*data.decode().split("\n"))
        now = time.monotonic()
        if self._notifier.watchdog and now >= self.due:
            is_fresh = now - self._estate.head[Head.BEAT] / 1e9 < _FRESH_SECONDS
            if is_fresh:
                self._notifier.alive()
            self.due = now + (self._notifier.watchdog if is_fresh else _AGAIN_SECONDS)


class RelayedNotifier(Notifier):
    """The notifier of a dispatcher, of which the keeper sends all.

    Args:
        notifier: Sends itself, if the keeper has ended. Lent.
        estate: Has the sockets. Lent.
    """

    def __init__(self, notifier: Notifier, estate: Estate) -> None:
        super().__init__()
        self._notifier = notifier
        self._estate = estate

    def _send(self, *fields: str) -> None:
        number, keeper = self._estate.take_fd(Head.NOTICES), self._estate.head[Head.KEEPER]
        if number < 0 or os.getppid() != keeper:
            self._notifier.relay(*fields)
            return
        with contextlib.suppress(BlockingIOError, ProcessLookupError):  # a keeper that is stopped does not read
            os.write(number, "\n".join(fields).encode())
            os.kill(keeper, NOTICE)
