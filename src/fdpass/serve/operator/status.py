"""The figures that ``fdpass status`` shows: of the server, its connections, and each worker."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import fdpass
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.pool.process import resident_bytes
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.shared.ledger import BEAT_SECONDS, Ledger


def status(dispatcher: Dispatcher, listeners: Sequence[Listening]) -> dict[str, Any]:
    """Collect the figures in the form of ``fdpass status --json``."""
    connections, current = dispatcher.connections, dispatcher.pool.current
    return {
        "server": {
            "pid": os.getpid(),
            "version": fdpass.__version__,
            "generation": current.number,
            "stopping": dispatcher.pool.stopping,
            "listeners": [each.name for each in listeners],
            "app": current.config.app,
        },
        "connections": {
            "accepted": connections.accepted,
            "live": connections.live,
            "handed": connections.handed,
            "finished": connections.finished,
            "rehanded": connections.rehanded,
            "lost": connections.lost,
            **(_recovered(dispatcher.custody, _told(dispatcher)) if dispatcher.custody is not None else {}),
        },
        "workers": [
            _worker(worker, dispatcher.ledger, connections.live_of[worker.row])
            for worker in dispatcher.pool.workers
        ],
    }


def _told(dispatcher: Dispatcher) -> int:
    """Count the WebSockets whose clients were told to connect again by their workers."""
    return dispatcher.told + sum(dispatcher.ledger.told[worker.row] for worker in dispatcher.pool.workers)


def _recovered(custody: Custody, told: int) -> dict[str, int]:
    """Count connections by what the dispatcher did with them when their worker died or retired."""
    return {
        "moved": custody.counts[Action.IDLE],
        "replayed": custody.counts[Action.REPLAY],
        "answered_502": custody.counts[Action.ANSWER],
        "cut": custody.counts[Action.RESET] + custody.counts[Action.CLOSE],
        "resumed": custody.resumed,
        "told_to_reconnect": custody.counts[Action.RESTART] + told,
    }


def _worker(worker: WorkerHandle, ledger: Ledger, connections: int) -> dict[str, Any]:
    row = worker.row
    overdue = time.monotonic_ns() - ledger.beat[row] - int(BEAT_SECONDS * 1e9) if ledger.beat[row] else 0
    return {
        "pid": worker.pid,
        "generation": worker.generation,
        "state": worker.state.value,
        "connections": connections,
        "requests": ledger.requests[row],
        "handled": ledger.handled[row],
        "lag_ms": round(max(ledger.lag[row], overdue, 0) / 1e6, 1),
        "rss": resident_bytes(worker.pid),
    }
