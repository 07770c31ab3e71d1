"""What clients of serve.py notice of a reload, and of the sudden death of a worker."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from _serve_load import Found, Load, clients
from _serve_processes import Server, ended

RELOADS = 3
LONGEST = 40.0  # seconds for one reload, or to replace a worker that died
SETTLE = 0.5  # seconds of load before and after each reload or kill
CLIENTS = 32  # half of them send requests without a pause, half with one


def _reload(server: Server) -> None:
    old = set(server.pids)
    server.process.send_signal(signal.SIGHUP)
    server.wait_ready(LONGEST, without=old)
    if not ended(old, LONGEST):
        raise TimeoutError("workers of before the reload are still there")


def _kill(server: Server) -> None:
    victim = min(server.pids)
    os.kill(victim, signal.SIGKILL)
    if not ended([victim], LONGEST):
        raise TimeoutError("a killed worker is still there")
    server.wait_ready(LONGEST, without=[victim])


def _told(found: Found, outcome: str, took: float) -> dict[str, Any]:
    return {
        "requests": found.requests,
        "failed": found.failed.total(),
        "kinds": dict(found.failed),
        "reconnects": found.reconnects,
        "slowest": found.slowest,
        "took": took,
        "outcome": outcome,
    }


def under_load(server: Server, kind: str) -> dict[str, Any]:
    """`reload` or `kill`: what the clients saw, whether it succeeded, and how long it took."""
    outcome, act, times = ("", _reload, RELOADS) if kind == "reload" else ("", _kill, 1)
    load = Load(server.port, LONGEST * 2 * RELOADS, busy=CLIENTS // 2, calm=CLIENTS // 2, pause=0.01)
    with clients(load) as running:
        time.sleep(SETTLE)
        began = time.monotonic()
        try:
            for _ in range(times):
                act(server)
                time.sleep(SETTLE)
        except (RuntimeError, TimeoutError) as error:
            outcome = str(error)
            time.sleep(SETTLE)
        took = time.monotonic() - began
        return _told(running.stop(), outcome, took)
