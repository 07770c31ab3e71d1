"""`KeptTotals`: the totals, which outlive the dispatcher."""

from __future__ import annotations

import time
from typing import Any

from fdpass.serve.dispatcher.lasting import store, stored
from fdpass.serve.dispatcher.totals import Totals
from fdpass.serve.keeper.estate import Estate, Head


class KeptTotals(Totals):
    """The totals of this dispatcher, and of those before it.

    If a dispatcher dies between the end of a worker and `keep`, that worker's counts are missing.

    Args:
        estate: Has the totals for the next dispatcher. Lent.
    """

    def __init__(self, estate: Estate) -> None:
        super().__init__(stored(estate, Head.TOTALS) or {}, time.monotonic())
        self._estate = estate
        self._kept: dict[str, Any] = {}

    def keep(self) -> None:
        """Store what has changed, if there can be a next dispatcher."""
        written = self.written()
        if self._estate.head[Head.KEEPER] and written != self._kept:
            self._kept = written
            store(self._estate, Head.TOTALS, written, "fdpass-totals")
