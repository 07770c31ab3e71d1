"""`Pool`: as many workers as are wanted, of the right generation, replaced when they end, new before old.

One rule serves starting, replacing, recycling, scaling and reloading (`Pool.reconcile`): start the workers that
are missing; once as many as are wanted are ready and stay, retire all others.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from fdpass._supervision.loop import Loop
from fdpass.errors import FdpassError
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.kept_totals import KeptTotals
from fdpass.serve.dispatcher.pool import ends, progress_log
from fdpass.serve.dispatcher.pool.generation import Generation, Generations, Outcome
from fdpass.serve.dispatcher.pool.owner import Owner
from fdpass.serve.dispatcher.pool.process import describe_status
from fdpass.serve.dispatcher.pool.starts import Starts
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.dispatcher.pool.workers import Workers
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.ledger import Ledger

log = logging.getLogger("fdpass.serve")

_RECOVERY_SECONDS = 0.5  # for how long a start is put off until a dead worker's connections have other workers
GRACE_SECONDS = 5.0
"""Beyond ``--graceful-timeout``, or after a failed start, for a worker to run its exit functions, and to exit."""


class Pool:
    """The workers of a server.

    Args:
        loop: Event loop; watches for the workers' ends.
        ledger: The workers' ledger.
        connections: All connections.
        estate: Has a row for each worker. Lent.
        owner: The dispatcher.
        config: The settings of the first generation.
        access_log: The access log of the first generation. Given.

    Attributes:
        starts: Whether workers can be started.
        totals: What was counted since the start.
        stopping: `stop` was called: no worker is started any more.
    """

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        connections: Connections,
        *,
        estate: Estate,
        owner: Owner,
        config: Config,
        access_log: AccessLog,
    ) -> None:
        self._loop = loop
        self._estate = estate
        self._ledger = ledger
        self._connections = connections
        self._owner = owner
        self._workers = Workers()
        self._generations = Generations(config, access_log, estate)
        self.starts = Starts(loop, self.reconcile)
        self.totals = KeptTotals(estate)
        self.stopping = False

    @property
    def current(self) -> Generation:
        """The generation that serves."""
        return self._generations.current

    @property
    def candidate(self) -> Generation | None:
        """The generation that a reload has started; None if no reload is in progress."""
        return self._generations.candidate

    @property
    def target(self) -> int:
        """How many active workers there should be."""
        return self.current.target

    @property
    def workers(self) -> list[WorkerHandle]:
        """All workers that have not ended, in the order in which they were started."""
        return self._workers.all()

    def reconcile(self) -> None:
        """Bring the workers that there are nearer to those that are wanted."""
        if self.stopping or self.starts.given_up:
            return
        if self.candidate is not None and self._workers.can_take_over(self.candidate):
            self._switch(self.candidate)
        for generation in filter(None, (self.current, self.candidate)):
            self._fill(generation)
        self._activate()
        full = self._workers.are_full(self.current)
        for worker in self.workers:
            if self._is_unwanted(worker) and (
                worker.state is State.STARTING or (full and worker.state is State.READY)
            ):
                self.retire(worker)
        self._owner.workers_changed()

    @property
    def complete(self) -> bool:
        """As many workers as are wanted are ready, and all others are retiring."""
        return (
            self.candidate is None
            and len(self._workers.staying(self.current)) == self.current.size
            and len(self._workers.ready(self.current)) == self.current.size
            and not any(self._is_unwanted(worker) and worker.state is State.READY for worker in self.workers)
        )

    def _is_unwanted(self, worker: WorkerHandle) -> bool:
        newest = self.candidate or self.current
        return worker.to_retire or worker.generation not in {self.current.number, newest.number}

    def _activate(self) -> None:
        """Make as many ready workers active as are wanted. Spare workers, and those of the candidate, rest."""
        ready = self._workers.ready(self.current)
        missing = self.target - sum(worker.active for worker in ready)
        for worker in [worker for worker in ready if not worker.active][: max(0, missing)]:
            worker.active = True
            self._owner.activate(worker)

    def _fill(self, generation: Generation) -> None:
        missing = generation.size - len(self._workers.staying(generation))
        serving, starting = len(self._workers.ready(self.current)), self._workers.count_starting()
        for _ in range(min(missing, self.starts.most_now(starting=starting, serving=serving))):
            if not self._start(generation):
                return
        for worker in self._workers.too_many(generation, self._connections.live_of):
            self.retire(worker)

    def _start(self, generation: Generation) -> bool:
        row = self._workers.free_row()
        try:
            words, buffers = self._estate.row(row), self._owner.make_buffers()
            names = {"folder": generation.folder, "app": generation.config.app}
            worker = WorkerHandle(row, generation.number, self._ledger, words, buffers, **names)
        except FdpassError as error:
            self.totals.failed += 1
            why = getattr(error, "strerror", None) or str(error)
            if generation is self.candidate:
                self._loop.call_later(0, lambda: self._abandon(generation.number, why))  # not within `reconcile`
            else:
                self.starts.failed(why)
            return False
        self.totals.started += 1
        self._workers.add(worker)
        self._loop.watch(worker.child.pidfd.fileno(), lambda: self.on_end(worker))
        if not self._owner.set_up(worker, generation):
            worker.failure = {"sentence": "a worker was started, but the kernel did not take its first message"}
            worker.kill()  # `on_end` then counts a failed start
            return False
        worker.is_set_up = True
        return True

    def adopt(self) -> list[WorkerHandle]:
        """Take over the workers of a dead dispatcher. Returns them."""
        for row in self._estate.stages():
            worker = WorkerHandle.adopted(row, self._ledger, self._estate.row(row), self._estate.status_of)
            self._workers.add(worker)
            self._loop.watch(worker.child.pidfd.fileno(), lambda worker=worker: self.on_end(worker))  # type: ignore[misc]
        if self._estate.head[Head.STARTED]:
            self.starts.succeeded()
        return self.workers

    def resume_reload(self, outcome: Outcome) -> None:
        """Report the outcome of a reload that a dead dispatcher had begun; see `reload`."""
        self._generations.resume(outcome)

    # The life of a worker

    def on_ready(self, worker: WorkerHandle) -> None:
        """A worker reports that it is ready."""
        if worker.state is not State.STARTING:
            return
        worker.change_state(State.READY)
        worker.was_ready = True
        self.starts.succeeded()
        self._estate.head[Head.STARTED] = 1
        progress_log.ready(worker)
        self.reconcile()

    def on_failed(self, worker: WorkerHandle, failure: dict[str, Any]) -> None:
        """A worker reports why it cannot start. It ends itself, unless a thread of the application hangs."""
        worker.failure = failure
        self._loop.call_later(GRACE_SECONDS, worker.kill)

    def replace(self, worker: WorkerHandle) -> None:
        """Start another worker, and retire this one when the other is ready."""
        worker.to_retire = True
        self.reconcile()

    def retire(self, worker: WorkerHandle, kind: bytes = messages.RETIRE) -> None:
        """Let a worker finish its work and exit.

        Args:
            worker: The worker.
            kind: The message that it gets: RETIRE, or END at the server's stop.
        """
        if worker.state is State.STARTING:
            worker.kill()
        worker.to_retire = True
        if worker.state is not State.RETIRING:
            self._owner.deactivate(worker)
            worker.change_state(State.RETIRING)
        worker.send_or_queue(kind)
        if not self.stopping:  # else `stop` has set the deadline
            self._set_deadline(worker)

    def _set_deadline(self, worker: WorkerHandle) -> None:
        worker.set_deadline(self.current.config.graceful_timeout + GRACE_SECONDS)

    def on_end(self, worker: WorkerHandle) -> None:
        """Handle the end of a worker; wait for it, if the worker was killed a moment ago."""
        self._loop.unwatch(worker.child.pidfd.fileno())
        before, worker.to_retire = worker.state, True
        if before is not State.RETIRING:
            self._owner.deactivate(worker)
        if not self.stopping:
            self._activate()  # a spare worker, so that the connections need not wait for a start
        outcome = self._owner.recover(worker)
        self.totals.add_row(self._ledger, worker.row)
        status = worker.close()
        worker.change_state(State.GONE)
        self._workers.remove(worker)
        if before is State.STARTING:
            self.totals.failed += 1
            self._on_failed_start(worker, describe_status(status))
        else:
            died = before is State.READY and not self.stopping
            ends.on_end(worker, status, outcome, self.totals, died=died)
        self._reconcile_after_recovery(time.monotonic() + _RECOVERY_SECONDS)
        self._owner.workers_changed()

    def _reconcile_after_recovery(self, latest: float) -> None:
        """Reconcile once other workers have the dead worker's connections, whose processor a start would take."""
        if self._owner.has_waiting() and self._workers.ready(self.current) and time.monotonic() < latest:
            self._loop.call_later(_RECOVERY_SECONDS / 20, lambda: self._reconcile_after_recovery(latest))
        else:
            self.reconcile()

    def _on_failed_start(self, worker: WorkerHandle, how: str) -> None:
        if self.starts.given_up:
            return  # the first failure decides: the others, as a rule, fail for the same reason
        reason = worker.failure.get("sentence") or f"a worker ended before it was ready ({how})"
        details = worker.failure.get("details", "")
        if self.candidate is not None and worker.generation == self.candidate.number:
            self._abandon(worker.generation, reason + ("\n" + details.rstrip() if details else ""))
        else:
            self.starts.failed(reason, details)

    # Generations

    def reload(self, config: Config, access_log: AccessLog, outcome: Outcome, folder: str = "") -> None:
        """Start the next generation. The current one serves until the next is ready.

        Args:
            config: The settings of the next generation.
            access_log: Its access log. Given.
            outcome: Called when the reload has ended. It must not begin another reload.
            folder: Working folder of its workers; empty: that of the dispatcher.
        """
        candidate = self._generations.begin(config, access_log, outcome, folder)
        progress_log.starting(candidate)
        self.reconcile()

    def _switch(self, candidate: Generation) -> None:
        self._generations.switch(self.workers)
        self._generations.report("")
        self.totals.reloads["succeeded"] += 1
        progress_log.done(candidate)

    def _abandon(self, number: int, why: str) -> None:
        if (candidate := self.candidate) is None or candidate.number != number:
            return
        self._generations.drop_candidate()
        self.totals.reloads["failed"] += 1
        progress_log.failed(candidate, self.current, why)
        for worker in self._workers.staying(candidate):
            self.retire(worker)
            worker.kill("reload")
        self._generations.report(why)
        self.reconcile()

    def reopen_logs(self) -> None:
        """Open the access log of each generation again, and let its workers write to the new file.

        Raises:
            CallFailed: An access log cannot be opened; the previous file is used on.
        """
        self._generations.reopen_logs(self.workers)

    def scale(self, target: int) -> None:
        """Set how many active workers there should be."""
        self._generations.scale(target)
        self.reconcile()

    # The end

    def stop(self) -> None:
        """Start no more workers, and set the deadline of all. `retire` then tells them to go."""
        self.stopping = True
        self._generations.drop_candidate()
        self._generations.report("the server is stopping")
        self.starts.cancel()
        for worker in self.workers:
            self._set_deadline(worker)

    def kill(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.kill()

    def close(self) -> None:
        """Close the access logs. All workers have ended."""
        self._generations.close()
