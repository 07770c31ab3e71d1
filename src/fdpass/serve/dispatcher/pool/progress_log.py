"""The log's lines about what the pool brings about: a worker is ready; a reload begins, and ends."""

from __future__ import annotations

import logging
import time

from fdpass.serve.dispatcher.pool.generation import Generation
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")


def ready(worker: WorkerHandle) -> None:
    """A worker is ready."""
    seconds, extra = time.monotonic() - worker.started_at, worker.about(Event.WORKER_READY)
    log.info("worker %d is ready (generation %d, %.1f s)", worker.pid, worker.generation, seconds, extra=extra)


def starting(candidate: Generation) -> None:
    """The next generation is started."""
    extra = about(Event.RELOAD_STARTED, generation=candidate.number)
    log.info("reload: starting generation %d", candidate.number, extra=extra)


def done(candidate: Generation) -> None:
    """The next generation serves."""
    extra = about(Event.RELOAD_DONE, generation=candidate.number)
    log.info("reload: generation %d serves", candidate.number, extra=extra)


def failed(candidate: Generation, current: Generation, why: str) -> None:
    """The next generation did not start, and the current one goes on."""
    extra = about(Event.RELOAD_FAILED, generation=candidate.number)
    text = "reload: generation %d did not start, generation %d goes on: %s"
    log.error(text, candidate.number, current.number, why, extra=extra)
