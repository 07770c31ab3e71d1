"""`Parking`: connections that came idle from another worker, until their clients ask again.

They have no protocol and no transport yet. So ten thousand of them can be taken over within a moment.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from functools import partial

from fdpass.serve.passed import PassedSocket, unread
from fdpass.serve.poller import Poller
from fdpass.serve.timeouts import Timeout, Timeouts


class Parking:
    """All of a worker.

    Args:
        poller: Where they are watched.
        timeouts: How long one may be idle.
        serve: Called with a connection of which something has come. Given.
    """

    def __init__(self, poller: Poller, timeouts: Timeouts, serve: Callable[[PassedSocket], None]) -> None:
        self._poller = poller
        self._timeouts = timeouts
        self._serve = serve
        self._ones: dict[PassedSocket, Timeout] = {}

    def add(self, passed: PassedSocket) -> None:
        """Here is one. Given."""
        self._ones[passed] = self._timeouts.start(partial(self._end, passed))
        self._poller.watch(passed.fileno(), select.EPOLLIN, partial(self._ready, passed))

    def _ready(self, passed: PassedSocket, events: int = 0) -> None:  # noqa: ARG002 - reading tells what it is
        self._take(passed)
        self._serve(passed)

    def _take(self, passed: PassedSocket) -> None:
        self._ones.pop(passed).cancel()
        self._poller.unwatch(passed.fileno())

    def _end(self, passed: PassedSocket) -> None:
        self._take(passed)
        passed.close()

    def give_back(self) -> None:
        """The dispatcher shall have all of them."""
        for passed in list(self._ones):
            passed.returned = True
            self._end(passed)

    def end(self) -> None:
        """End all of them; but what a client has sent already is served."""
        for passed in list(self._ones):
            if unread(passed.fileno()):
                self._ready(passed)
            else:
                self._end(passed)
