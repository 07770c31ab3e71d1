"""Looking after the workers: those that hang, do not start, do not go, or have done enough."""

from __future__ import annotations

import logging
import time

from fdpass.serve.dispatcher.loop import Loop
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.process import resident
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.ledger import Ledger

log = logging.getLogger("fdpass.serve")

_DYING = 1.0  # seconds for a worker to print its stacks


class Upkeep:
    """What `look` looks at is in the ledger, in /proc, and on the clock."""

    def __init__(self, loop: Loop, ledger: Ledger, pool: Pool) -> None:
        self._loop = loop
        self._ledger = ledger
        self._pool = pool

    def look(self) -> None:
        """Once."""
        now = time.monotonic()
        for member in self._pool.members:
            config = self._pool.current.config
            if member.state is State.STARTING:
                self._look_at_start(member, now)
            elif config.hang_timeout and self._beat_age(member, now) > config.hang_timeout:
                self._hangs(member, now)
            elif member.deadline is not None and now > member.deadline:
                log.warning("worker %d did not go in time: it is killed", member.pid)
                member.kill()
                member.deadline = None
            elif member.state is State.READY and not member.outgoing:
                self._look_at_use(member, config)

    def _look_at_start(self, member: WorkerHandle, now: float) -> None:
        limit = self._pool.current.config.start_timeout
        if now - member.began > limit and not member.aborted:
            # It may have said why it failed, and yet be there: a thread of the application holds it.
            if not member.failure:
                member.failure = {"sentence": f"a worker was not ready within {limit:g} s (--start-timeout)"}
            self._strike(member)

    def _beat_age(self, member: WorkerHandle, now: float) -> float:
        return now - max(self._ledger.beat[member.row] / 1e9, member.since)

    def _hangs(self, member: WorkerHandle, now: float) -> None:
        if not member.aborted:
            log.error(
                "worker %d hangs: its event loop has not moved for %.1f s (--hang-timeout); it prints its stacks, "
                "and is killed",
                member.pid,
                self._beat_age(member, now),
            )
            self._strike(member)

    def _strike(self, member: WorkerHandle) -> None:
        member.abort()
        self._loop.call_later(_DYING, member.kill)

    def _look_at_use(self, member: WorkerHandle, config: Config) -> None:
        """One at a time is recycled: all of them have done as much as each other."""
        if self._pool.candidate is not None or any(
            other.outgoing and other.state is State.READY for other in self._pool.members
        ):
            return
        handled = self._ledger.handled[member.row]
        if config.max_requests and handled >= config.max_requests:
            log.info("worker %d has handled %d requests (--max-requests): it is replaced", member.pid, handled)
            self._pool.on_leaving(member)
        elif config.max_rss and (rss := resident(member.pid)) > config.max_rss:
            log.info("worker %d has %d MiB resident (--max-rss): it is replaced", member.pid, rss >> 20)
            self._pool.on_leaving(member)
