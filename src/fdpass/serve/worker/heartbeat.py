"""`Heartbeat`: stores a worker's beat and its counters in the ledger, ten times a second."""

from __future__ import annotations

import asyncio
import faulthandler
import select
import threading
import time

from fdpass._conversation import Conversation
from fdpass.serve.shared.ledger import BEAT_SECONDS, Ledger
from fdpass.serve.worker.request_count import RequestCount

_REARM_SECONDS = 5.0
"""How often the timer that ends a worker without a dispatcher is set again; it expires much later."""

_PEER_GONE = select.POLLRDHUP


class Heartbeat:
    """The beat of one worker.

    Args:
        channel: To the dispatcher. Lent.
        ledger: Lent.
        row: Of the worker, in the ledger.
        request_count: Of the worker.
        hang_timeout: After so many seconds without a beat the dispatcher kills the worker; 0: never.
    """

    def __init__(
        self,
        channel: Conversation,
        ledger: Ledger,
        row: int,
        request_count: RequestCount,
        hang_timeout: float,
    ) -> None:
        self._channel = channel
        self._ledger = ledger
        self._row = row
        self._request_count = request_count
        self._hang_timeout = hang_timeout
        self._loop = asyncio.get_running_loop()
        self._orphaned = False  # the dispatcher has gone
        self._armed = 0.0  # when the timer of `_guard` was set

    def start(self) -> None:
        """Store the first beat, and go on."""
        if self._hang_timeout:
            threading.Thread(target=self._watch_dispatcher, name="fdpass-watch", daemon=True).start()
        self._beat(self._loop.time())

    def _beat(self, due: float) -> None:
        now = self._loop.time()
        self._ledger.lag[self._row] = max(0, int((now - due) * 1e9))
        self._request_count.store(self._ledger, self._row)
        self._ledger.beat[self._row] = time.monotonic_ns()
        self._loop.call_later(BEAT_SECONDS, self._beat, now + BEAT_SECONDS)
        self._channel.flush()  # messages that the channel had no room for
        if self._orphaned and now - self._armed > _REARM_SECONDS:
            self._guard(now)

    def _watch_dispatcher(self) -> None:
        """Wait, in a thread, until the dispatcher has gone: from then on no process kills a worker that hangs.

        The timer of `_guard` must not run before. It measures time on the clock, and would end a worker that was
        stopped together with the dispatcher and goes on with it, as after a suspend of the machine.
        """
        poller = select.poll()
        poller.register(self._channel.sock.fileno(), _PEER_GONE)
        poller.poll()
        self._guard(time.monotonic())
        self._orphaned = True

    def _guard(self, now: float) -> None:
        """Let the worker exit if its loop hangs when no dispatcher is there any more to kill it.

        faulthandler's timer is a thread in C, which runs although the loop hangs.
        """
        self._armed = now
        faulthandler.dump_traceback_later(self._hang_timeout + 3 * _REARM_SECONDS, exit=True)
