"""`Totals`: what a server has counted since its start, whichever of its workers are still there. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fdpass.serve.shared.ledger import COUNTS, Ledger

RELOADS = ("succeeded", "failed", "refused")
"""The outcomes of a reload."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts of all workers at one time, those that have ended included.

    Attributes:
        at: When, on the monotonic clock.
        handled, duration, counts: The sums of all rows.
        handled_of: ``handled`` of each row that a worker has.
    """

    at: float
    handled: int
    duration: int
    counts: list[int]
    handled_of: dict[int, int]


class Totals:
    """Counts.

    Args:
        known: What `written` has returned in a dispatcher before; empty for a new server.
        now: The time, on the monotonic clock.

    Attributes:
        began: When the server began, on the monotonic clock.
        handled, duration, counts: The sums of the rows of all workers that have ended; see `Column` and
            `ledger.COUNTS`.
        deaths: By cause, how many workers have died.
        started, failed, restarts: Workers started; workers that could not be started or did not become ready;
            workers started in the place of one that had died.
        reloads: By outcome, how many reloads have ended.
    """

    def __init__(self, known: Mapping[str, Any], now: float) -> None:
        self.began: float = known.get("began", now)
        self.handled: int = known.get("handled", 0)
        self.duration: int = known.get("duration", 0)
        self.counts: list[int] = known.get("counts", [0] * COUNTS)
        self.deaths = Counter[str](known.get("deaths", {}))
        self.started: int = known.get("started", 0)
        self.failed: int = known.get("failed", 0)
        self.restarts: int = known.get("restarts", 0)
        self.reloads = Counter[str](known.get("reloads", dict.fromkeys(RELOADS, 0)))

    def written(self) -> dict[str, Any]:
        """Return all counts as what JSON can write, for the next dispatcher."""
        return {
            "began": self.began,
            "handled": self.handled,
            "duration": self.duration,
            "counts": self.counts,
            "deaths": dict(self.deaths),
            "started": self.started,
            "failed": self.failed,
            "restarts": self.restarts,
            "reloads": dict(self.reloads),
        }

    def add_row(self, ledger: Ledger, row: int) -> None:
        """Move the counts of a worker that has ended from its row to the sums."""
        self.handled += ledger.handled[row]
        self.duration += ledger.duration[row]
        self.counts = _sums([self.counts, ledger.counts(row)])
        ledger.clear_counts(row)

    def with_rows(self, ledger: Ledger, rows: Sequence[int], now: float) -> Snapshot:
        """Return the counts of all workers; ``rows`` are those of the workers that have not ended."""
        return Snapshot(
            now,
            self.handled + sum(ledger.handled[row] for row in rows),
            self.duration + sum(ledger.duration[row] for row in rows),
            _sums([self.counts, *(ledger.counts(row) for row in rows)]),
            {row: ledger.handled[row] for row in rows},
        )


def _sums(lists: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*lists, strict=True)]
