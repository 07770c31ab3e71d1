"""Statuses of servers, in the form of ``fdpass status --json``, for tests."""

import copy

BOUNDS = [2**power * 100_000 / 1e9 for power in range(21)]
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


def worker(number, **fields):
    """A worker that is ready, with some fields changed."""
    return {
        "pid": 1000 + number,
        "number": number,
        "generation": 1,
        "state": "ready",
        "age": 60.0,
        "connections": 10,
        "requests": 1,
        "handled": 500,
        "lag_ms": 0.2,
        "rss": 40 * 2**20,
        **fields,
    }


def status(workers=2, /, **changes):
    """The status of a server with so many workers; a change ``part__field=value`` is made in it."""
    found = {
        "server": {
            "pid": 999,
            "version": "0.1.0",
            "generation": 1,
            "stopping": False,
            "listeners": ["127.0.0.1:8000"],
            "app": "shop.main:app",
            "most_connections": 100,
            "uptime": 3600.0,
            "control": "/run/shop.sock",
            "workers_wanted": workers,
        },
        "connections": {
            "accepted": 120,
            "live": 20,
            "handed": 130,
            "finished": 97,
            "rehanded": 10,
            "lost": 3,
            "moved": 8,
            "replayed": 2,
            "answered_502": 1,
            "cut": 2,
            "resumed": 0,
            "told_to_reconnect": 0,
        },
        "requests": {
            "handled": 1000,
            "in_progress": workers,
            "responses": {"1xx": 0, "2xx": 990, "3xx": 0, "4xx": 6, "5xx": 4},
            "latency": {"bounds": BOUNDS, "counts": {name: [0] * 22 for name in CLASSES}, "seconds": 1.5},
        },
        "bytes": {"received": 5000, "sent": 90000},
        "handoffs": {"latency": {"bounds": BOUNDS, "counts": [100, 20] + [0] * 20}},
        "waits": {"count": 1, "seconds": 0.25, "waiting": False},
        "listeners": [
            {"address": "127.0.0.1:8000", "backlog": 3, "backlog_max": 2048},
            {"address": "unix:/run/shop", "backlog": None, "backlog_max": None},
        ],
        "deaths": {"SIGKILL": 2, "hang": 1},
        "starts": {"started": 5, "failed": 0, "restarts": 3},
        "reloads": {"succeeded": 1, "failed": 0, "refused": 2, "in_progress": False},
        "workers": [worker(1 + index) for index in range(workers)],
    }
    found["requests"]["latency"]["counts"]["2xx"][3] = 990
    found["requests"]["latency"]["counts"]["4xx"][0] = 6
    found["requests"]["latency"]["counts"]["5xx"][21] = 4
    for place, value in changes.items():
        *parts, field = place.split("__")
        part = found
        for each in parts:
            part = part[each]
        part[field] = value
    return copy.deepcopy(found)


def old_status():
    """The status of a server that has no counts yet, and no limit."""
    found = status()
    for name in ("requests", "bytes", "handoffs", "waits", "listeners", "deaths", "starts", "reloads"):
        del found[name]
    for name in ("most_connections", "uptime", "control", "workers_wanted"):
        del found["server"][name]
    for each in found["workers"]:
        del each["number"], each["age"]
    return found
