"""`RequestCount`: a worker's requests and the durations of its responses, which its beat stores in the ledger."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from operator import attrgetter
from typing import Any

from fdpass.serve.shared.ledger import BOUNDS, BUCKETS, CLASSES, Ledger

_is_complete = attrgetter("complete")


class RequestCount:
    """Of one worker. Only in the thread of its loop.

    A response appends its duration to a list. The beat counts what is in the lists, because a store in the ledger
    takes many more instructions than one in a list: with it a response would cost 3 % more. Of a worker that is
    killed, the last tenth of a second is not counted.

    Attributes:
        begun: WebSockets and calls of raw handlers that have begun, ever.
        over: How many of these are over.
        exchanges: The HTTP requests of which the application has not returned yet.
        unanswered: HTTP requests that are over without a whole response, ever.
        seconds: By the status of a response, the list of the durations of the responses of its class, in seconds.
        waits: How long connections waited between accept(2) and their arrival here, in seconds.
        told: WebSockets whose clients were told to connect again (code 1012) since the worker retires or stops.
    """

    __slots__ = (
        "_answered",
        "_duration",
        "_lists",
        "begun",
        "exchanges",
        "over",
        "seconds",
        "told",
        "unanswered",
        "waits",
    )

    def __init__(self) -> None:
        self.begun = self.over = self.told = self.unanswered = 0
        self.exchanges: Collection[Any] = ()
        self.waits: list[float] = []
        self._lists: list[list[float]] = [[] for _ in CLASSES]
        self.seconds = {status: self._lists[status // 100 - 1] for status in range(100, 600)}
        self._answered = 0
        self._duration = 0.0

    @property
    def in_progress(self) -> int:
        """Requests in progress: begun, and not answered yet."""
        waiting: int = len(self.exchanges) - sum(map(_is_complete, self.exchanges))
        return self.begun - self.over + waiting

    def store(self, ledger: Ledger, row: int) -> None:
        """Count what is in the lists, and store all in the worker's row of the ledger."""
        if self.waits:
            _count(self.waits, ledger.counts(row), 0)
        for index, seconds in enumerate(self._lists, 1):
            if seconds:
                self._answered += len(seconds)
                self._duration += sum(seconds)
                _count(seconds, ledger.counts(row), index * BUCKETS)
                ledger.duration[row] = int(self._duration * 1e9)
        ledger.requests[row] = self.in_progress
        ledger.handled[row] = self.over + self.unanswered + self._answered
        ledger.told[row] = self.told


def _count(seconds: list[float], counts: memoryview, start: int) -> None:
    """Count durations in the buckets from ``start`` on, and forget them: with one search a bucket."""
    seconds.sort()
    counted = 0
    for bucket in range(bisect_right(BOUNDS, seconds[0]), bisect_right(BOUNDS, seconds[-1])):
        below = bisect_left(seconds, BOUNDS[bucket])
        counts[start + bucket] += below - counted
        counted = below
    counts[start + bisect_right(BOUNDS, seconds[-1])] += len(seconds) - counted
    seconds.clear()
