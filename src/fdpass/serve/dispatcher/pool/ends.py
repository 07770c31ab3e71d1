"""Logs the end of a worker that had started, and counts it if the worker has died."""

from __future__ import annotations

import logging

from fdpass.serve.dispatcher.pool.process import cause_of, describe_status
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.dispatcher.totals import Totals
from fdpass.serve.shared.events import Event

log = logging.getLogger("fdpass.serve")

_ON_PURPOSE = {
    "stop",
    "reload",
}  # causes of a kill that is no death: a second stop, a reload that failed


def on_end(worker: WorkerHandle, status: int, outcome: str, totals: Totals, *, died: bool) -> None:
    """Log and count the end of a worker.

    Args:
        worker: The worker.
        status: As of `Child.reap`.
        outcome: What became of its connections, for the log.
        totals: Gets the count.
        died: The worker was serving, and nobody had told it to end.
    """
    cause, how = worker.killed_for or cause_of(status), describe_status(status)
    if died:
        extra = worker.about(Event.WORKER_DIED, cause=cause)
        log.error("worker %d ended (%s); another is started%s", worker.pid, how, outcome, extra=extra)
        totals.restarts += 1
    elif status and worker.was_ready:
        extra = worker.about(Event.WORKER_DIED, cause=cause)
        log.warning("worker %d ended while it retired (%s)%s", worker.pid, how, outcome, extra=extra)
    elif worker.was_ready:
        log.info("worker %d has retired", worker.pid, extra=worker.about(Event.WORKER_RETIRED))
    else:
        log.info("worker %d ended before it was ready", worker.pid, extra=worker.about(Event.WORKER_ENDED))
    if died or (status and worker.was_ready and cause not in _ON_PURPOSE):
        totals.deaths[cause] += 1
