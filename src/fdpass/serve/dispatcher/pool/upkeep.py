"""`Upkeep`: ends workers that hang, or start or retire too slowly, and recycles those that have done enough."""

from __future__ import annotations

import logging
import time

from fdpass._supervision.loop import Loop
from fdpass._words import counted
from fdpass.serve.dispatcher.pool.pool import GRACE_SECONDS, Pool
from fdpass.serve.dispatcher.pool.process import resident_bytes
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.ledger import Ledger

log = logging.getLogger("fdpass.serve")

_ABORT_SECONDS = 1.0  # for a worker to print its stacks before it is killed
_GAP_SECONDS = 1.0  # between two checks, which come three times a second: the dispatcher itself has not run
_REPORT_SECONDS = 5.0  # between two lines about the workers that have not finished


class Upkeep:
    """Checks workers by the ledger, by their memory (proc(5)), and by the clock."""

    def __init__(self, loop: Loop, ledger: Ledger, pool: Pool) -> None:
        self._loop = loop
        self._ledger = ledger
        self._pool = pool
        self._checked_at = time.monotonic()
        self._resumed_at = self._reported_at = 0.0

    def check(self) -> None:
        """Check all workers once."""
        now = time.monotonic()
        self._discount_gap(now)
        self._report_unfinished(now)
        for worker in self._pool.workers:
            config = self._pool.current.config
            if worker.state is State.STARTING:
                self._check_start(worker, now)
            elif config.hang_timeout and self._seconds_since_beat(worker, now) > config.hang_timeout:
                self._end_hung(worker, now)
            elif worker.deadline is not None and now > worker.deadline:
                extra = worker.about(Event.WORKER_KILLED, cause="graceful timeout")
                log.warning(
                    "worker %d did not end in time (--graceful-timeout): it is killed", worker.pid, extra=extra
                )
                worker.kill("graceful timeout")
                worker.deadline = None
            elif worker.state is State.READY and not worker.to_retire:
                self._recycle(worker, config)

    def _discount_gap(self, now: float) -> None:
        """Count no time in which the dispatcher did not run, as in a frozen container: no worker ran then."""
        gap, self._checked_at = now - self._checked_at, now
        if gap > _GAP_SECONDS:
            self._resumed_at = now
            for worker in self._pool.workers:
                worker.postpone(gap)

    def _report_unfinished(self, now: float) -> None:
        """Log now and then which workers have not finished, and with how many requests."""
        slow = [
            worker
            for worker in self._pool.workers
            if worker.state is State.RETIRING and now - worker.state_since >= _REPORT_SECONDS
        ]
        if slow and now - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now
            workers = ", ".join(self._unfinished(worker, now) for worker in slow)
            log.info("still finishing: %s", workers, extra=about(Event.WORKER_UNFINISHED))

    def _unfinished(self, worker: WorkerHandle, now: float) -> str:
        count = self._ledger.requests[worker.row]
        left = 0.0 if worker.deadline is None else max(0.0, worker.deadline - GRACE_SECONDS - now)
        return f"worker {worker.pid} ({count} request{'s'[: count != 1]}, at most {left:.0f} s)"

    def _check_start(self, worker: WorkerHandle, now: float) -> None:
        limit = self._pool.current.config.start_timeout
        if now - worker.started_at > limit and not worker.aborted:
            # A worker that has reported why it failed can still be running: a thread of the application holds it.
            if not worker.failure:
                worker.failure = {"sentence": f"a worker was not ready within {limit:g} s (--start-timeout)"}
            self._abort(worker, "start timeout")

    def _seconds_since_beat(self, worker: WorkerHandle, now: float) -> float:
        return now - max(self._ledger.beat[worker.row] / 1e9, worker.state_since, self._resumed_at)

    def _end_hung(self, worker: WorkerHandle, now: float) -> None:
        if not worker.aborted:
            log.error(
                "worker %d hangs: its event loop has not run for %.1f s (--hang-timeout); it prints its stacks, "
                "and is killed",
                worker.pid,
                self._seconds_since_beat(worker, now),
                extra=worker.about(Event.WORKER_KILLED, cause="hang"),
            )
            self._abort(worker, "hang")

    def _abort(self, worker: WorkerHandle, cause: str) -> None:
        worker.abort(cause)
        self._loop.call_later(_ABORT_SECONDS, worker.kill)

    def _recycle(self, worker: WorkerHandle, config: Config) -> None:
        """Replace a worker that has done enough, one at a time: all workers have done about as much."""
        if self._pool.candidate is not None or any(
            other.to_retire and other.state is State.READY for other in self._pool.workers
        ):
            return
        handled = self._ledger.handled[worker.row]
        if config.max_requests and handled >= config.max_requests + jitter(worker, config):
            log.info(
                "worker %d has handled %s (--max-requests): it is replaced",
                worker.pid,
                counted(handled, "request"),
                extra=worker.about(Event.WORKER_RECYCLED, cause="max requests"),
            )
            self._pool.replace(worker)
        elif config.max_rss and (rss := resident_bytes(worker.pid)) > config.max_rss:
            log.info(
                "worker %d has %d MiB resident (--max-rss): it is replaced",
                worker.pid,
                rss >> 20,
                extra=worker.about(Event.WORKER_RECYCLED, cause="max rss"),
            )
            self._pool.replace(worker)


def jitter(worker: WorkerHandle, config: Config) -> int:
    """A number up to ``--max-requests-jitter``: each worker has its own, which is the same at each call."""
    return hash((worker.pid, worker.started_at)) % (config.max_requests_jitter + 1)
