"""`Starts`: how many workers may be started now, when a failed start is tried again, and when none is any more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from fdpass._supervision.backoff import Backoff
from fdpass._supervision.loop import Loop
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.ledger import MOST_WORKERS
from fdpass.serve.shared.processors import processors

log = logging.getLogger("fdpass.serve")

_PROCESSORS = processors()
_QUIET_SECONDS = 60.0  # until the reason of the same failure is logged again


class Starts:
    """Counts the starts of workers that succeed and fail.

    Args:
        loop: Event loop; waits before the next try.
        retry: Called when a start may be tried again.

    A start that fails before any has succeeded ends the server: who starts it should see the fault at once, and a
    service manager can try again. Later the server lives on, and starts are tried again: what fails then, such as
    a database, may come back.

    Attributes:
        failure: Why the newest start failed; "" once one has succeeded.
        given_up: Why no start is tried any more; "" while starts are tried. Only before the first success.
    """

    def __init__(self, loop: Loop, retry: Callable[[], None]) -> None:
        self.failure = ""
        self.given_up = ""
        self._said_at = 0.0  # when the reason was logged
        self._backoff = Backoff(loop, retry)
        self._has_succeeded = False

    def most_now(self, *, starting: int, serving: int) -> int:
        """How many workers may be started now.

        A start takes a processor for a third of a second, and workers that serve need the processors too.

        Args:
            starting: How many workers are starting.
            serving: How many workers serve.
        """
        if self._backoff.waiting:
            return 0
        return max(0, _PROCESSORS - starting) if serving else MOST_WORKERS

    def succeeded(self) -> None:
        """A worker has become ready."""
        self._has_succeeded = True
        self._backoff.succeeded()
        self.failure = ""

    def failed(self, reason: str, details: str = "") -> None:
        """A start has failed: try again later, or give up.

        Args:
            reason: Why it failed.
            details: The application's traceback, if it has one.
        """
        details = "\n" + details.rstrip() if details else ""
        if not self._has_succeeded:
            self.given_up = reason + details
            return
        now, why = time.monotonic(), ""
        if reason != self.failure:  # else it has been logged, with the traceback
            self.failure, self._said_at = reason, now
            log.error("%s%s", reason, details, extra=about(Event.START_FAILED))
        elif now - self._said_at >= _QUIET_SECONDS:
            self._said_at = now
            why = f" ({reason})"
        seconds = self._backoff.failed()
        extra = about(Event.START_DELAYED)
        log.warning("a worker could not be started%s: trying again in %.1f s", why, seconds, extra=extra)

    def cancel(self) -> None:
        """Start nothing more."""
        self._backoff.cancel()
