"""How many requests a worker has begun and ended: plain numbers, which its beat puts into the ledger."""

from __future__ import annotations


class RequestCount:
    """Of one worker. Only in the thread of its loop.

    Attributes:
        begun: Requests that have begun, ever.
        over: Of these, how many are over: answered, in custody; else their application has returned.
    """

    __slots__ = ("begun", "over")

    def __init__(self) -> None:
        self.begun = self.over = 0
