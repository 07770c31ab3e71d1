"""Figures about requests: responses by class, and how long they took, of one worker or of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fdpass.serve.dispatcher.totals import Snapshot
from fdpass.serve.shared.ledger import BOUNDS, BUCKETS, CLASSES, COUNTS

_SERIES = [slice(start, start + BUCKETS) for start in range(0, COUNTS, BUCKETS)]


def of_all(now: Snapshot, before: Snapshot, in_progress: int) -> dict[str, Any]:
    """Return the figures of all workers.

    Args:
        now: The counts now.
        before: Those of a moment ago.
        in_progress: Requests in progress.
    """
    recent = [count - former for count, former in zip(now.counts, before.counts, strict=True)]
    return {
        "requests": {
            "handled": now.handled,
            "in_progress": in_progress,
            "responses": by_class(now.counts),
            "latency": {
                "bounds": BOUNDS,
                "counts": {name: now.counts[part] for name, part in zip(CLASSES, _SERIES[1:], strict=True)},
                "seconds": round(now.duration / 1e9, 6),
            },
        },
        "handoffs": {"latency": {"bounds": BOUNDS, "counts": now.counts[_SERIES[0]]}},
        "recent": {
            "seconds": round(now.at - before.at, 3),
            "handled": now.handled - before.handled,
            "responses": by_class(recent),
            "latency": all_classes(recent),
        },
    }


def by_class(counts: Sequence[int]) -> dict[str, int]:
    """Count responses by class; ``counts`` are as of `ledger.COUNTS`."""
    return {name: sum(counts[part]) for name, part in zip(CLASSES, _SERIES[1:], strict=True)}


def all_classes(counts: Sequence[int]) -> list[int]:
    """Count responses by duration; ``counts`` are as of `ledger.COUNTS`."""
    return [sum(column) for column in zip(*(counts[part] for part in _SERIES[1:]), strict=True)]


def rate(now: Snapshot, before: Snapshot, row: int) -> float:
    """Return the requests a second of one worker; a worker that has just got its row began at 0."""
    handled, former = now.handled_of[row], before.handled_of.get(row, 0)
    seconds = now.at - before.at
    return round(max(0, handled - (former if former <= handled else 0)) / seconds, 1) if seconds else 0.0
