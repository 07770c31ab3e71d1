"""`Dispatcher`: accepts connections, hands them to workers, and supervises the workers."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fdpass._fd import Fd
from fdpass._memory import common, mapped, share
from fdpass._supervision.loop import Loop
from fdpass._supervision.orphans import Orphans
from fdpass._words import counted
from fdpass.errors import StartFailed
from fdpass.serve.dispatcher import limits
from fdpass.serve.dispatcher.accept.balance import BALANCES
from fdpass.serve.dispatcher.accept.base import Acceptor
from fdpass.serve.dispatcher.accept.by_dispatcher import ByDispatcher
from fdpass.serve.dispatcher.accept.by_worker import ByWorker
from fdpass.serve.dispatcher.accept.listener_watch import ListenerWatch
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.adopted_workers import AdoptedWorkers
from fdpass.serve.dispatcher.adoption import Adopting, Adoption, Parts, PassingAdoption, TurnsAdoption
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.fullness import Fullness
from fdpass.serve.dispatcher.lasting import lasting
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.lost_request import REASON_502
from fdpass.serve.dispatcher.passing import Passing
from fdpass.serve.dispatcher.pool.generation import Generation
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.upkeep import Upkeep
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.dispatcher.totals import Snapshot
from fdpass.serve.dispatcher.worker_messages import WorkerMessages
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.shared import messages, setup
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.ledger import BEAT_SECONDS, Ledger, size_for
from fdpass.serve.shared.slots import BUFFER_SIZE

log = logging.getLogger("fdpass.serve")
_UPKEEP_EVERY = 3  # checks
_SNAPSHOT_EVERY = 10  # checks
_GIVE_UP_SECONDS = 1.0  # for the other workers to end by themselves once the first start has failed


class Dispatcher:
    """Joins the acceptor and the pool of workers.

    Args:
        loop: Event loop.
        config: The settings.
        listeners: All listeners. Lent; a stop closes them.
        capacity: The most connections of one worker.
        estate: What the dispatcher leaves to the next one. Lent.
        access_log: The access log of the first generation. Given.
        workers_changed: Called whenever workers have started, become ready, failed or ended.

    Attributes:
        connections: All connections.
        ledger: The workers' ledger.
        custody: Keeps duplicates of the connections; None without custody.
        pool: The workers.
        recent: The counts of a second or two ago.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        listeners: Sequence[Listening],
        *,
        capacity: int,
        estate: Estate,
        access_log: AccessLog,
        workers_changed: Callable[[Pool], None],
    ) -> None:
        self._loop = loop
        self._estate = estate
        self._listeners = listeners
        self._workers_changed = workers_changed
        self._stopping = False
        self._checks = 0
        self._memory = lasting(estate, Head.LEDGER, size_for(estate.most), "fdpass-ledger")
        self._map = mapped(self._memory)
        self.ledger = Ledger(self._map)
        self.connections = Connections(estate, self.ledger.holders)
        self._fullness = Fullness(self.connections)
        self.custody = Custody(loop, estate, config.replay) if config.keeps else None
        self._passing = Passing(estate)
        self._buffers_size = BUFFER_SIZE * limits.buffers_each(config)
        arguments = (loop, listeners, self.connections, self.ledger, BALANCES[config.balance](), capacity)
        self._acceptor: Acceptor = (
            ByWorker(*arguments)
            if config.accept == "worker"
            else ByDispatcher(*arguments, custody=self.custody, passing=self._passing)
        )
        self.pool = Pool(
            loop, self.ledger, self.connections, estate=estate, owner=self, config=config, access_log=access_log
        )
        self.recent = self._newest = self.snapshot()
        self._messages = WorkerMessages(loop, self._acceptor, self.pool, self._on_synced)
        self._adopted: AdoptedWorkers | None = None
        self._upkeep = Upkeep(loop, self.ledger, self.pool)
        self._orphans = Orphans(lambda: {worker.pid for worker in self.pool.workers})

    @property
    def told(self) -> int:
        """How many WebSockets' clients were told to connect again by workers."""
        told = self.ledger.told
        return self._estate.head[Head.TOLD] + sum(told[worker.row] for worker in self.pool.workers)

    @property
    def keeper(self) -> int:
        """The process number of the keeper; 0 without one."""
        return self._estate.head[Head.KEEPER]

    def adopt(self, accepted: Iterable[tuple[int, Any]], lingering: Iterable[int]) -> None:
        """Take over what a dead dispatcher has left: its workers, and all connections; see `Adoption.begin`.

        Args:
            accepted: Connections that no word of the estate names, with their clients' addresses. Given.
            lingering: Connections to which the dead dispatcher had sent the last bytes. Given.
        """
        serial = self._estate.head[Head.SERIAL]
        self._adopted = AdoptedWorkers(self._adoption(serial), self._acceptor, self.pool, serial)
        quiesced, self._estate.head[Head.QUIESCED] = self._estate.head[Head.QUIESCED], 0
        self._adopted.begin(self._messages.watch, accepted, upgraded=quiesced != 0)
        for fd in lingering:
            if self.custody is None:
                os.close(fd)
            else:
                self.custody.lingering.add(fd)

    def _adoption(self, serial: int) -> Adopting:
        estate, connections, ledger = self._estate, self.connections, self.ledger
        if isinstance(self._acceptor, ByDispatcher):
            parts = Parts(estate, connections, self._acceptor, ledger, serial)
            if self.custody is None:
                return PassingAdoption(parts, self._passing)
            return Adoption(parts, self.custody)
        assert isinstance(self._acceptor, ByWorker)
        return TurnsAdoption(connections, self._acceptor, ledger, serial=serial)

    def _on_synced(self, worker: WorkerHandle, serial: int, leaving: bool) -> None:
        if self._adopted is not None:
            self._adopted.on_synced(worker, serial, leaving)

    def run(self) -> None:
        """Serve until `stop`, or until the first start fails.

        Raises:
            StartFailed: The first worker did not become ready.
        """
        if not self._stopping:
            self.pool.reconcile()
        self._check()
        self._estate.head[Head.SERVED] = self._estate.head[Head.SERIAL]
        if self.pool.workers:
            self._loop.run()
        if self.pool.starts.given_up:
            raise StartFailed(self.pool.starts.given_up)

    def save(self) -> None:
        """Store for the next dispatcher what the estate does not have yet."""
        self._log_answered(os.getpid())

    def close(self) -> None:
        """Kill the workers that are left, and close the connections that wait for one."""
        self._acceptor.close()
        self.pool.stop()
        self.pool.kill()
        while self.pool.workers:
            for worker in self.pool.workers:
                self.pool.on_end(worker)
        self._acceptor.drop_waiting()
        self._log_answered(os.getpid())
        self.pool.close()
        if self.custody is not None:
            self.custody.close()
        self.ledger.release()
        self._map.close()
        self._memory.close()

    def stop(self) -> None:
        """Drain the backlogs, close the listeners, and let the workers finish; then `run` returns.

        A second call kills the workers.
        """
        if self._stopping:
            log.warning("stopping at once", extra=about(Event.SERVER_KILLED))
            self.pool.kill()
            return
        self._stopping = True
        requests, most = self._requests_in_progress(), self.pool.current.config.graceful_timeout
        extra = about(Event.SERVER_STOPPING)
        if requests:
            log.info("stopping: finishing %s (at most %g s)", counted(requests, "request"), most, extra=extra)
        else:
            log.info("stopping: no request is in progress", extra=extra)
        self.pool.stop()
        for listener in self._listeners:
            listener.refuse_new()
        self._acceptor.drain(self._end_workers)

    def _end_workers(self) -> None:
        """The drain is over: close the listeners that are left, and let the workers finish and exit."""
        for listener in self._listeners:
            listener.close()
        for worker in self.pool.workers:
            self.pool.retire(worker, messages.END)
        self.workers_changed()

    def _check(self) -> None:
        self._loop.call_later(BEAT_SECONDS, self._check)
        self._estate.head[Head.BEAT] = time.monotonic_ns()
        for worker in self.pool.workers:
            worker.conversation.flush()  # messages for which its channel had no space
        self._acceptor.check_workers()
        self._fullness.check(self._requests_in_progress())
        self._checks += 1
        if self._checks % _UPKEEP_EVERY == 0:
            self._upkeep.check()
            self._orphans.reap()
            if self.custody is not None:
                self.custody.forget_used()
        if self._checks % _SNAPSHOT_EVERY == 0:
            self.recent, self._newest = self._newest, self.snapshot()

    def snapshot(self) -> Snapshot:
        """Return the counts of all workers now."""
        rows = [worker.row for worker in self.pool.workers]
        return self.pool.totals.with_rows(self.ledger, rows, time.monotonic())

    @property
    def waits(self) -> ListenerWatch:
        """How often and how long nothing was accepted because there was no room."""
        return self._acceptor.watch

    def _requests_in_progress(self) -> int:
        return sum(self.ledger.requests[worker.row] for worker in self.pool.workers)

    # What the pool asks and reports

    def make_buffers(self) -> Fd | None:
        """See `owner.Owner`."""
        return None if self.custody is None else common(self._buffers_size, name="fdpass-buffers")

    def set_up(self, worker: WorkerHandle, generation: Generation) -> bool:
        """See `owner.Owner`."""
        kept: list[Fd] = []
        if self.custody is not None and worker.buffers is not None:
            kept = [self.custody.memory, worker.buffers, self.custody.pages]
        data, fds = setup.packed(
            generation.config,
            worker.row,
            generation.number,
            [listener.sock for listener in self._listeners],
            ledger=self._memory,
            access_log=generation.access_log.fd,
            kept=kept,
        )
        self._messages.watch(worker)
        return worker.send(data, fds)

    def activate(self, worker: WorkerHandle) -> None:
        """See `owner.Owner`."""
        if worker.synced:  # else `AdoptedWorkers` adds it
            self._acceptor.add(worker)
            self._acceptor.proceed()

    def deactivate(self, worker: WorkerHandle) -> None:
        """See `owner.Owner`."""
        if not self.pool.stopping:  # else no other worker could get them
            self._acceptor.take_back_unread(worker)
        self._acceptor.remove(worker)
        self._acceptor.proceed()

    def recover(self, worker: WorkerHandle) -> str:
        """See `owner.Owner`."""
        self._acceptor.read_ended()
        self._messages.read_last(worker)
        outcome = self._acceptor.recover(worker)
        self._estate.head[Head.TOLD] += self.ledger.told[worker.row]
        self.ledger.told[worker.row] = 0  # else the next dispatcher would add them again
        self._log_answered(worker.pid)
        self._acceptor.proceed()
        return outcome

    def _log_answered(self, pid: int) -> None:
        """Write the requests that got a 502 in the place of this process to the access log."""
        if self.custody is not None:
            current = self.pool.current
            for scope in self.custody.answered:
                current.access_log.line(scope, 502, len(REASON_502), pid=pid, json=current.config.log_json)
            self.custody.answered.clear()

    def has_waiting(self) -> bool:
        """See `owner.Owner`."""
        return self._acceptor.has_waiting

    def workers_changed(self) -> None:
        """See `owner.Owner`."""
        self.pool.totals.keep()
        if self.pool.starts.given_up and not self._stopping:
            self._give_up()
        if self._stopping and not self.pool.workers:
            self._loop.stop()
        self._workers_changed(self.pool)

    def _give_up(self) -> None:
        """The first start has failed: let the other workers, which are starting too, end as after a stop."""
        self._stopping = True
        if self.keeper:  # which ends the server even if we die before the end
            failure = share(self.pool.starts.given_up.encode(), name="fdpass-failure")
            self._estate.head[Head.FAILURE] = failure.take() + 1
        self._acceptor.close()
        for listener in self._listeners:
            listener.close()
        self.pool.stop()
        for worker in self.pool.workers:
            worker.send_or_queue(messages.END)  # a worker reads it once its application has started
        self._loop.call_later(_GIVE_UP_SECONDS, self.pool.kill)
