"""`Parking`: connections that came idle from another worker, until their clients send something.

A parked connection has no protocol object and no transport yet, so a worker can take over ten thousand of them
within a moment.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable

from fdpass.serve.worker.idle_timer import IdleTimer
from fdpass.serve.worker.passed_socket import PassedSocket, unread
from fdpass.serve.worker.poller import Poller

log = logging.getLogger("fdpass.serve")


class Parking:
    """All parked connections of a worker.

    Args:
        poller: Watches them.
        seconds: How long a connection may stay parked.
        serve: Called with a connection whose client has sent something, or has gone. Given.
    """

    def __init__(self, poller: Poller, seconds: float, serve: Callable[[PassedSocket], None]) -> None:
        self._poller = poller
        self._serve = serve
        self._parked: dict[int, PassedSocket] = {}
        self._idle = IdleTimer(poller.loop, seconds, self._end)

    def add(self, passed: PassedSocket) -> None:
        """Park a connection. Given."""
        number = passed.fileno()
        try:
            self._poller.watch(number, select.EPOLLIN, self._ready)
        except OSError as error:  # ENOSPC, ENOMEM: see epoll_ctl(2)
            log.warning("an idle connection was closed: %s", error.strerror)
            passed.close()
            return
        self._parked[number] = passed
        self._idle.add(number)

    def _take_out(self, number: int) -> PassedSocket:
        self._poller.unwatch(number)
        self._idle.discard(number)
        return self._parked.pop(number)

    def _ready(self, number: int, events: int = 0) -> None:  # noqa: ARG002 - reading will tell data from an end
        self._serve(self._take_out(number))

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
