"""How many requests a worker has begun and ended: plain numbers, which its beat puts into the ledger."""

from __future__ import annotations


class RequestCount:
    """Of one worker. Only in the thread of its loop.

    Attributes:
        begun: Requests that have begun, ever.
        over: How many of these are over: answered whole, or left unanswered by their application.
        told: WebSockets whose clients were told to connect again (code 1012) since the worker retires or stops.
    """

    __slots__ = ("begun", "over", "told")

    def __init__(self) -> None:
        self.begun = self.over = self.told = 0
