"""Figures of a server between two polls: rates, and latency from the buckets of the histogram. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Status = Mapping[str, Any]


def responses(status: Status) -> Mapping[str, int]:
    """How many responses there were of each class, ever; empty if the server is too old to count them."""
    return status.get("requests", {}).get("responses", {})  # type: ignore[no-any-return]


def failed(status: Status) -> int:
    """How many requests ended in an error of the server's side, ever: responses 5xx, and those lost at a death."""
    connections = status["connections"]
    lost: int = sum(connections.get(name, 0) for name in ("answered_502", "cut"))
    return responses(status).get("5xx", 0) + lost


def buckets(status: Status) -> list[int]:
    """How many responses each bucket of latency has, of all classes, ever."""
    counts = status.get("requests", {}).get("latency", {}).get("counts", {})
    return [sum(column) for column in zip(*counts.values(), strict=True)]


def bounds(status: Status) -> Sequence[float]:
    """The upper bound of each bucket but the last, in seconds."""
    return status.get("requests", {}).get("latency", {}).get("bounds", ())  # type: ignore[no-any-return]


def quantile(ends: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The latency in seconds below which this share of the responses is, by linear interpolation in its bucket.

    Args:
        ends: The upper bound of each bucket but the last, in seconds.
        counts: How many responses each bucket has.
        share: From 0 to 1.

    Returns:
        None without responses; the last bound for what lies beyond it.
    """
    wanted, below = share * sum(counts), 0
    if not wanted:
        return None
    for number, end in enumerate(ends):
        if counts[number] and below + counts[number] >= wanted:
            start = ends[number - 1] if number else 0.0
            return start + (end - start) * (wanted - below) / counts[number]
        below += counts[number]
    return ends[-1]


def rate(before: int, now: int, seconds: float) -> float:
    """How many more a second."""
    return round((now - before) / seconds, 1)


def sample(before: Status | None, now: Status, seconds: float, past: Status | None) -> dict[str, Any]:
    """What the page draws as one point.

    Args:
        before: The status one poll ago; None, or of another process: all rates are 0.
        now: The status now.
        seconds: The time between the two.
        past: The status some seconds ago, from which on latency is computed.

    Returns:
        Rates a second; latency in seconds; None for what the server does not count, or has none of.
    """
    if before is None or before["server"]["pid"] != now["server"]["pid"]:
        before = past = now
    if past is None or past["server"]["pid"] != now["server"]["pid"]:
        past = before
    counts = [count - old for count, old in zip(buckets(now), buckets(past), strict=True)]
    connections, earlier = now["connections"], before["connections"]
    return {
        "requests": rate(sum(responses(before).values()), sum(responses(now).values()), seconds)
        if responses(now)
        else None,
        "failed": rate(failed(before), failed(now), seconds),
        "accepted": rate(earlier["accepted"], connections["accepted"], seconds),
        "handed": rate(earlier["handed"], connections["handed"], seconds),
        "p50": quantile(bounds(now), counts, 0.5),
        "p99": quantile(bounds(now), counts, 0.99),
        "live": connections["live"],
        "progress": sum(worker["requests"] for worker in now["workers"]),
    }
