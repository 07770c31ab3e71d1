"""The figures of a server, as `fdpass status --json` prints them."""

BOUNDS = [2**power / 10_000 for power in range(21)]


def worker(pid, state="ready", **more):
    return {
        "pid": pid,
        "number": 1,
        "generation": 1,
        "state": state,
        "connections": 0,
        "requests": 0,
        "handled": 0,
        "rate": 0.0,
        "lag_ms": 0.0,
        "rss": 40 << 20,
        **more,
    }


def status(*workers, **more):
    """A server of which nothing has been asked yet."""
    zeros = dict.fromkeys(("accepted", "live", "handed", "finished", "rehanded", "lost", "moved", "replayed"), 0)
    classes = dict.fromkeys(("1xx", "2xx", "3xx", "4xx", "5xx"), 0)
    found = {
        "server": {
            "pid": 1000,
            "dispatcher": 1000,
            "version": "0.1.0",
            "generation": 1,
            "stopping": False,
            "listeners": ["127.0.0.1:8000"],
            "app": "shop.main:app",
            "uptime": 5.0,
            "control": "/run/fdpass.sock",
            "workers_wanted": len(workers),
        },
        "requests": {
            "handled": 0,
            "in_progress": 0,
            "responses": classes,
            "latency": {"bounds": BOUNDS, "counts": {name: [0] * 22 for name in classes}, "seconds": 0.0},
        },
        "recent": {"seconds": 2.0, "handled": 0, "responses": classes, "latency": [0] * 22},
        "handoffs": {"latency": {"bounds": BOUNDS, "counts": [0] * 22}},
        "bytes": {"received": 0, "sent": 0},
        "waits": {"count": 0, "seconds": 0.0, "waiting": False},
        "listeners": [{"address": "127.0.0.1:8000", "backlog": 0, "backlog_max": 2048}],
        "deaths": {},
        "starts": {"started": 2, "failed": 0, "restarts": 0, "failure": ""},
        "reloads": {"succeeded": 0, "failed": 0, "refused": 0, "in_progress": False},
        "connections": zeros,
        "workers": list(workers),
    }
    return found | more
