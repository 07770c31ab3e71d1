"""The metrics by the conventions of Prometheus: name, type, help and labels of each, and where its values are.

Pure. Each name begins with ``fdpass_``, and each metric has the label ``server``. The label ``worker`` is the
number of a worker, which a later one can have again: process numbers would begin new time series at each reload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from fdpass._dashboard.figures import bounds, buckets, responses
from fdpass._dashboard.settings import text_of
from fdpass._dashboard.state import State

Status = Mapping[str, Any]
Answer = tuple[str, State, Status | None]
"""A server's name, its state, and its status; None if it is silent."""

_Values = Mapping[tuple[str, ...], float]
"""The values of a metric, by the values of its labels."""

_OUTCOMES = ("moved", "replayed", "resumed", "answered_502", "cut", "told_to_reconnect")
_RELOADS = ("succeeded", "failed", "refused")
_STATES = ("starting", "ready", "retiring")


@dataclass(frozen=True, slots=True)
class Family:
    """One gauge or counter.

    Attributes:
        name: Its name; that of a counter without ``_total``.
        help: Its help.
        values: Takes its values from a status.
        labels: Its labels besides ``server``.
    """

    name: str
    help: str
    values: Callable[[Status], _Values]
    labels: tuple[str, ...] = ()


def _one(part: str, name: str) -> Callable[[Status], _Values]:
    """The value at one place of the status; none if the server is too old to have it."""
    return lambda status: {(): status[part][name]} if name in status.get(part, {}) else {}


def _each(part: str, names: Sequence[str]) -> Callable[[Status], _Values]:
    """The values of some fields of a part, each with the field's name as its label."""
    return lambda status: {(name,): status[part][name] for name in names if name in status.get(part, {})}


def _info(status: Status) -> _Values:
    return {(status["server"]["app"], status["server"]["version"]): 1}


def _states(status: Status) -> _Values:
    states = [worker["state"] for worker in status["workers"]]
    return {(state,): states.count(state) for state in _STATES}


def _workers(field: str, unit: float = 1) -> Callable[[Status], _Values]:
    """A field of each worker, by its number."""
    return lambda status: {
        (str(worker["number"]),): worker[field] * unit for worker in status["workers"] if "number" in worker
    }


def _listeners(field: str) -> Callable[[Status], _Values]:
    """A field of each listener, by its address."""
    return lambda status: {
        (listener["address"],): listener[field]
        for listener in status.get("listeners", ())
        if listener[field] is not None
    }


GAUGES = (
    Family("fdpass_server_info", "Application and version of a server; always 1.", _info, ("app", "version")),
    Family("fdpass_uptime_seconds", "Time since the server was started.", _one("server", "uptime")),
    Family("fdpass_generation", "Number of the generation that serves.", _one("server", "generation")),
    Family("fdpass_stopping", "Whether the server is stopping: 1 or 0.", _one("server", "stopping")),
    Family("fdpass_reloading", "Whether a reload is in progress: 1 or 0.", _one("reloads", "in_progress")),
    Family("fdpass_connections", "Open connections.", _one("connections", "live")),
    Family("fdpass_connections_limit", "How many connections may be open.", _one("server", "most_connections")),
    Family("fdpass_requests_in_progress", "Requests that are not over.", _one("requests", "in_progress")),
    Family("fdpass_workers", "Worker processes by state.", _states, ("state",)),
    Family("fdpass_workers_wanted", "How many workers should serve.", _one("server", "workers_wanted")),
    Family("fdpass_worker_connections", "Open connections of a worker.", _workers("connections"), ("worker",)),
    Family("fdpass_worker_lag_seconds", "How late a worker's loop runs.", _workers("lag_ms", 1e-3), ("worker",)),
    Family("fdpass_worker_resident_memory_bytes", "Resident memory of a worker.", _workers("rss"), ("worker",)),
    Family("fdpass_backlog_connections", "Connections in a backlog.", _listeners("backlog"), ("listener",)),
    Family("fdpass_backlog_limit", "How many a backlog can have.", _listeners("backlog_max"), ("listener",)),
    Family("fdpass_waiting", "Whether accepting waits for room: 1 or 0.", _one("waits", "waiting")),
)

COUNTERS = (
    Family(
        "fdpass_requests",
        "Responses by class.",
        lambda status: {(name,): count for name, count in responses(status).items()},
        ("class",),
    ),
    Family("fdpass_request_bytes", "Bytes of requests, with custody.", _one("bytes", "received")),
    Family("fdpass_response_bytes", "Bytes of responses, with custody.", _one("bytes", "sent")),
    Family("fdpass_connections_accepted", "Accepted connections.", _one("connections", "accepted")),
    Family("fdpass_connections_finished", "Connections that ended in order.", _one("connections", "finished")),
    Family("fdpass_connections_lost", "Connections that ended with their worker.", _one("connections", "lost")),
    Family("fdpass_connections_handed", "Handoffs of connections to workers.", _one("connections", "handed")),
    Family(
        "fdpass_connections_recovered",
        "Connections of workers that died or retired, by what the dispatcher did with them.",
        _each("connections", _OUTCOMES),
        ("outcome",),
    ),
    Family(
        "fdpass_worker_deaths",
        "Workers that ended without having been told to, or were killed.",
        lambda status: {(cause,): count for cause, count in status.get("deaths", {}).items()},
        ("cause",),
    ),
    Family("fdpass_worker_starts", "Workers that were started.", _one("starts", "started")),
    Family("fdpass_worker_start_failures", "Workers that did not become ready.", _one("starts", "failed")),
    Family("fdpass_worker_restarts", "Workers started in place of dead ones.", _one("starts", "restarts")),
    Family("fdpass_reloads", "Reloads by outcome.", _each("reloads", _RELOADS), ("outcome",)),
    Family("fdpass_waits", "How often accepting waited for room.", _one("waits", "count")),
    Family("fdpass_wait_seconds", "How long accepting waited for room.", _one("waits", "seconds")),
)


def families(answers: Iterable[Answer]) -> Iterator[Metric]:
    """All metrics with the values of all servers.

    Args:
        answers: What is known of each server.
    """
    known = list(answers)
    yield from _checks(known)
    answered = [(name, status) for name, _, status in known if status is not None]
    for kind, rows in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
        for row in rows:
            metric = kind(row.name, row.help, labels=["server", *row.labels])
            for name, status in answered:
                for labels, value in row.values(status).items():
                    metric.add_metric([name, *map(text_of, labels)], float(value))
            yield metric
    yield from _histograms(answered)


def _checks(known: Iterable[Answer]) -> Iterator[Metric]:
    up = GaugeMetricFamily("fdpass_up", "Whether the server answers: 1 or 0.", labels=["server"])
    ready = GaugeMetricFamily("fdpass_ready", "Whether it should get connections: 1 or 0.", labels=["server"])
    for name, state, status in known:
        up.add_metric([name], float(status is not None))
        ready.add_metric([name], float(state.ready))
    yield from (up, ready)


def _histograms(answered: Iterable[tuple[str, Status]]) -> Iterator[Metric]:
    duration = HistogramMetricFamily(
        "fdpass_request_duration_seconds", "Time from a request's head to its response's end.", labels=["server"]
    )
    handoff = HistogramMetricFamily(
        "fdpass_handoff_duration_seconds", "Time from accept(2) to the worker, per handoff.", labels=["server"]
    )
    for name, status in answered:
        if counts := buckets(status):
            _add(duration, name, bounds(status), counts, status["requests"]["latency"]["seconds"])
        if found := status.get("handoffs", {}).get("latency"):
            _add(handoff, name, found["bounds"], found["counts"], found.get("seconds"))
    yield from (duration, handoff)


def _add(
    metric: HistogramMetricFamily, name: str, ends: Sequence[float], counts: Sequence[int], total: float | None
) -> None:
    """Add a histogram: Prometheus counts each value in its own bucket and in all later ones.

    Without a sum of all values it has buckets alone, which are enough for quantiles.
    """
    below = map(float, accumulate(counts))
    metric.add_metric([name], list(zip([*map(floatToGoString, ends), "+Inf"], below, strict=True)), total)
