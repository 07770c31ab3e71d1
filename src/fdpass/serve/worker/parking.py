"""`Parking`: connections that came idle from another worker, until their clients ask again.

They have no protocol and no transport yet. So ten thousand of them can be taken over within a moment.
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable

from fdpass.serve.worker.passed_socket import PassedSocket, unread
from fdpass.serve.worker.poller import Poller

log = logging.getLogger("fdpass.serve")
_LATE = 0.1  # seconds that one may stay longer, so that many are ended in one go


class Parking:
    """All of a worker.

    Args:
        poller: Where they are watched.
        seconds: How long one may be idle.
        serve: Called with a connection of which something has come. Given.
    """

    def __init__(self, poller: Poller, seconds: float, serve: Callable[[PassedSocket], None]) -> None:
        self._poller = poller
        self._seconds = seconds
        self._serve = serve
        self._ones: dict[int, tuple[PassedSocket, float]] = {}  # and since when; the first to come is first
        self._armed = False

    def add(self, passed: PassedSocket) -> None:
        """Here is one. Given."""
        number, loop = passed.fileno(), self._poller.loop
        try:
            self._poller.watch(number, select.EPOLLIN, self._ready)
        except OSError as error:  # ENOSPC, ENOMEM: see epoll_ctl(2)
            log.warning("an idle connection was closed: %s", error.strerror)
            passed.close()
            return
        self._ones[number] = passed, loop.time()
        if not self._armed:
            self._armed = True
            loop.call_later(self._seconds + _LATE, self._expire)

    def _take(self, number: int) -> PassedSocket:
        self._poller.unwatch(number)
        return self._ones.pop(number)[0]

    def _ready(self, number: int, events: int = 0) -> None:  # noqa: ARG002 - reading tells what it is
        self._serve(self._take(number))

    def _expire(self) -> None:
        self._armed = False
        loop = self._poller.loop
        for number, (_, since) in list(self._ones.items()):
            due = since + self._seconds
            if due > loop.time():
                self._armed = True
                loop.call_at(due + _LATE, self._expire)
                return
            self._end(number)

    def give_back(self) -> None:
        """The dispatcher shall have all of them."""
        for number in list(self._ones):
            passed = self._take(number)
            passed.returned = True
            passed.close()

    def end(self) -> None:
        """End all of them; but what a client has sent already is served."""
        for number in list(self._ones):
            self._end(number)

    def _end(self, number: int) -> None:
        if unread(number):
            self._ready(number)
        else:
            self._take(number).close()
