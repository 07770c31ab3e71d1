"""`Parking`: connections that came idle from another worker, until their clients send something.

A parked connection has no protocol object and no transport yet, so a worker can take over ten thousand of them
within a moment.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable

from fdpass.serve.worker.passed_socket import PassedSocket, unread
from fdpass.serve.worker.poller import Poller

log = logging.getLogger("fdpass.serve")
_GRACE = 0.1  # seconds beyond the keep-alive time, so that one timer ends many connections


class Parking:
    """All parked connections of a worker.

    Args:
        poller: Watches them.
        seconds: How long a connection may stay parked.
        serve: Called with a connection whose client has sent something, or has gone. Given.
    """

    def __init__(self, poller: Poller, seconds: float, serve: Callable[[PassedSocket], None]) -> None:
        self._poller = poller
        self._seconds = seconds
        self._serve = serve
        self._parked: dict[int, tuple[PassedSocket, float]] = {}  # with the time of its arrival; the oldest first
        self._timer_set = False

    def add(self, passed: PassedSocket) -> None:
        """Park a connection. Given."""
        number, loop = passed.fileno(), self._poller.loop
        try:
            self._poller.watch(number, select.EPOLLIN, self._ready)
        except OSError as error:  # ENOSPC, ENOMEM: see epoll_ctl(2)
            log.warning("an idle connection was closed: %s", error.strerror)
            passed.close()
            return
        self._parked[number] = passed, loop.time()
        if not self._timer_set:
            self._timer_set = True
            loop.call_later(self._seconds + _GRACE, self._expire)

    def _take_out(self, number: int) -> PassedSocket:
        self._poller.unwatch(number)
        return self._parked.pop(number)[0]

    def _ready(self, number: int, events: int = 0) -> None:  # noqa: ARG002 - reading will tell data from an end
        self._serve(self._take_out(number))

    def _expire(self) -> None:
        self._timer_set = False
        loop = self._poller.loop
        for number, (_, since) in list(self._parked.items()):
            due = since + self._seconds
            if due > loop.time():
                self._timer_set = True
                loop.call_at(due + _GRACE, self._expire)
                return
            self._end(number)

    def give_back(self) -> None:
        """Return all parked connections to the dispatcher."""
        for number in list(self._parked):
            passed = self._take_out(number)
            passed.returned = True
            passed.close()

    def end(self) -> None:
        """Close all parked connections, but serve those whose clients have sent something already."""
        for number in list(self._parked):
            self._end(number)

    def _end(self, number: int) -> None:
        if unread(number):
            self._ready(number)
        else:
            self._take_out(number).close()
