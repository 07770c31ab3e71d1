"""The figures that ``fdpass status`` shows: of the server, its connections, and each worker."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import fdpass
from fdpass.serve.dispatcher.backlog import backlog_of
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.pool.process import resident_bytes
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.operator import requests
from fdpass.serve.shared.ledger import BEAT_SECONDS, Ledger


def status(dispatcher: Dispatcher, listeners: Sequence[Listening], control: str) -> dict[str, Any]:
    """Collect the figures in the form of ``fdpass status --json``."""
    connections, pool = dispatcher.connections, dispatcher.pool
    current, totals, waits = pool.current, pool.totals, dispatcher.waits
    now, before = dispatcher.snapshot(), dispatcher.recent
    return {
        "server": {
            "pid": dispatcher.keeper or os.getpid(),
            "dispatcher": os.getpid(),
            "version": fdpass.__version__,
            "generation": current.number,
            "stopping": pool.stopping,
            "listeners": [each.name for each in listeners],
            "app": current.config.app,
            "most_connections": connections.most,
            "uptime": round(time.monotonic() - totals.began, 3),
            "control": control,
            "workers_wanted": pool.target,
        },
        **requests.of_all(now, before, sum(dispatcher.ledger.requests[worker.row] for worker in pool.workers)),
        **_bytes(dispatcher.custody),
        "waits": {"count": waits.waits, "seconds": round(waits.waited, 3), "waiting": waits.is_waiting},
        "listeners": [_listener(each) for each in listeners],
        "deaths": dict(totals.deaths),
        "starts": {
            "started": totals.started,
            "failed": totals.failed,
            "restarts": totals.restarts,
            "failure": pool.starts.failure,
        },
        "reloads": {**totals.reloads, "in_progress": pool.candidate is not None},
        "connections": {
            "accepted": connections.accepted,
            "live": connections.live,
            "handed": connections.handed,
            "finished": connections.finished,
            "rehanded": connections.rehanded,
            "lost": connections.lost,
            **(_recovered(dispatcher.custody, dispatcher.told) if dispatcher.custody is not None else {}),
        },
        "workers": [
            _worker(worker, dispatcher.ledger, connections.live_of[worker.row])
            | {"rate": requests.rate(now, before, worker.row)}
            for worker in pool.workers
        ],
    }


def _bytes(custody: Custody | None) -> dict[str, Any]:
    if custody is None:
        return {}
    received, sent = custody.bytes_so_far()
    return {"bytes": {"received": received, "sent": sent}}


def _listener(listener: Listening) -> dict[str, Any]:
    waiting, most = backlog_of(listener.sock) or (None, None)
    return {"address": listener.name, "backlog": waiting, "backlog_max": most}


def _recovered(custody: Custody, told: int) -> dict[str, int]:
    """Count connections by what the dispatcher did with them when their worker died or retired."""
    return {
        "moved": custody.counts[Action.IDLE],
        "replayed": custody.counts[Action.REPLAY],
        "answered_502": custody.counts[Action.ANSWER],
        "cut": custody.counts[Action.RESET] + custody.counts[Action.CLOSE],
        "resumed": custody.counts.resumed,
        "told_to_reconnect": custody.counts[Action.RESTART] + told,
    }


def _worker(worker: WorkerHandle, ledger: Ledger, connections: int) -> dict[str, Any]:
    row, counts = worker.row, ledger.counts(worker.row).tolist()
    overdue = time.monotonic_ns() - ledger.beat[row] - int(BEAT_SECONDS * 1e9) if ledger.beat[row] else 0
    return {
        "pid": worker.pid,
        "number": row + 1,
        "generation": worker.generation,
        "state": worker.state.value,
        "connections": connections,
        "requests": ledger.requests[row],
        "handled": ledger.handled[row],
        "lag_ms": round(max(ledger.lag[row], overdue, 0) / 1e6, 1),
        "rss": resident_bytes(worker.pid),
        "age": round(time.monotonic() - worker.started_at, 3),
        "responses": requests.by_class(counts),
        "latency": requests.all_classes(counts),
    }
