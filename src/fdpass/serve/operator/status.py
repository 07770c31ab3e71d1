"""What ``fdpass status`` shows: the server, its connections, and each worker."""

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
    """What is going on, as ``fdpass status --json`` has it."""
    books, current = dispatcher.connections, dispatcher.pool.current
    return {
        "server": {
            "pid": os.getpid(),
            "version": fdpass.__version__,
            "generation": current.number,
            "listeners": [each.name for each in listeners],
            "app": current.config.app,
        },
        "connections": {
            "accepted": books.accepted,
            "live": books.live,
            "handed": books.handed,
            "finished": books.finished,
            "rehanded": books.rehanded,
            "lost": books.lost,
            **(_outlived(dispatcher.custody) if dispatcher.custody is not None else {}),
        },
        "workers": [_worker(each, dispatcher.ledger, books.live_of[each.row]) for each in dispatcher.pool.workers],
    }


def _outlived(custody: Custody) -> dict[str, int]:
    """What became of connections whose worker died, or retired."""
    return {
        "moved": custody.counts[Action.IDLE],
        "replayed": custody.counts[Action.REPLAY],
        "answered_502": custody.counts[Action.ANSWER],
        "cut": custody.counts[Action.RESET] + custody.counts[Action.CLOSE],
    }


def _worker(member: WorkerHandle, ledger: Ledger, connections: int) -> dict[str, Any]:
    row = member.row
    late = time.monotonic_ns() - ledger.beat[row] - int(BEAT_SECONDS * 1e9) if ledger.beat[row] else 0
    return {
        "pid": member.pid,
        "generation": member.generation,
        "state": member.state.value,
        "connections": connections,
        "requests": ledger.requests[row],
        "handled": ledger.handled[row],
        "lag_ms": round(max(ledger.lag[row], late, 0) / 1e6, 1),
        "rss": resident_bytes(member.pid),
    }
