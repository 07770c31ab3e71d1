"""The workers as a whole: as many as are wanted, of the right generation, replaced when they end, new before old.

One rule serves starting, replacing, recycling, scaling and reloading (`Pool.reconcile`): start what is missing;
once as many as are wanted are ready and stay, retire the rest.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator

from fdpass.errors import FdpassError
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.loop import Loop
from fdpass.serve.dispatcher.pool.backoff import Backoff
from fdpass.serve.dispatcher.pool.generation import Generation, Generations, Outcome
from fdpass.serve.dispatcher.pool.owner import Owner
from fdpass.serve.dispatcher.pool.process import ending
from fdpass.serve.dispatcher.pool.worker_handle import State, WorkerHandle
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.ledger import MOST_WORKERS, Ledger

log = logging.getLogger("fdpass.serve")

_FIRST_SECONDS = 0.5  # that a start waits for connections to be taken over
_PROCESSORS = len(os.sched_getaffinity(0))
_GRACE = 3.0  # seconds beyond --graceful-timeout that a worker has to cut the rest and go


class Pool:
    """The workers.

    Args:
        loop: Where their ends are watched.
        ledger: Where their beats are seen.
        owner: Who is told.
        config: The settings of the first generation.
        access_log: The access log of the first generation. Given.

    Attributes:
        members: All workers that have not ended.
        height: All rows in use are below this.
        stopping: Nobody is started any more.
        started: Some worker was ready once.
        trouble: Why the newest start of a worker failed; "" once one has succeeded.
        hopeless: Why it makes no sense to go on trying to start the first ones.
    """

    def __init__(self, loop: Loop, ledger: Ledger, owner: Owner, config: Config, access_log: AccessLog) -> None:
        self._loop = loop
        self._ledger = ledger
        self._owner = owner
        self._rows: dict[int, WorkerHandle] = {}
        self._backoff = Backoff(loop, self.reconcile)
        self.trouble = ""
        self._began = time.monotonic()
        self.height = 0
        self._generations = Generations(config, access_log)
        self.stopping = False
        self.started = False
        self.hopeless = ""

    @property
    def current(self) -> Generation:
        """The generation that serves."""
        return self._generations.current

    @property
    def candidate(self) -> Generation | None:
        """The generation that shall take over, while a reload goes on."""
        return self._generations.candidate

    @property
    def target(self) -> int:
        """How many workers shall serve."""
        return self.current.target

    @property
    def members(self) -> list[WorkerHandle]:
        """In the order in which they were started."""
        return sorted(self._rows.values(), key=lambda member: member.began)

    def at(self, row: int) -> WorkerHandle | None:
        """The worker in a row of the ledger, if there is one."""
        return self._rows.get(row)

    def reconcile(self) -> None:
        """Bring what there is nearer to what is wanted."""
        if self.stopping or self.hopeless:
            return
        for generation in filter(None, (self.current, self.candidate)):
            self._fill(generation)
        if self.candidate is not None and self._ready(self.candidate) >= self._total(self.candidate):
            self._switch(self.candidate)
        self._activate()
        if self._ready(self.current) >= self._total(self.current):
            for member in self.members:
                if member.state is not State.RETIRING and self._passes(member):
                    self.retire(member)
        self._owner.settled()

    @property
    def complete(self) -> bool:
        """As many as are wanted are ready, and nobody else is left who has not been told to go."""
        staying = list(self._staying(self.current))
        return (
            self.candidate is None
            and len(staying) == self._total(self.current)
            and all(member.state is State.READY for member in staying)
            and not any(self._passes(member) and member.state is State.READY for member in self.members)
        )

    def _total(self, generation: Generation) -> int:
        return generation.target + generation.config.spare

    def _activate(self) -> None:
        """Let as many ready workers as are wanted get connections; spare ones, and the next generation, rest."""
        staying = [member for member in self._staying(self.current) if member.state is State.READY]
        missing = self.target - sum(member.active for member in staying)
        for member in [member for member in staying if not member.active][: max(0, missing)]:
            member.active = True
            self._owner.ready(member)

    def _staying(self, generation: Generation) -> Iterator[WorkerHandle]:
        for member in self.members:
            if member.generation == generation.number and not member.outgoing:
                yield member

    def _passes(self, member: WorkerHandle) -> bool:
        newest = self.candidate or self.current
        return member.outgoing or member.generation not in {self.current.number, newest.number}

    def _ready(self, generation: Generation) -> int:
        return sum(member.state is State.READY for member in self._staying(generation))

    def _fill(self, generation: Generation) -> None:
        staying = list(self._staying(generation))
        missing = self._total(generation) - len(staying)
        if not self._backoff.waiting:
            for _ in range(min(missing, self._room_to_start())):
                if not self._start(generation):
                    return
        # Too many: rather those that have not begun, or rest, then those that have least to finish.
        staying.sort(key=lambda member: (member.state is State.READY, member.active, member.live, -member.began))
        for member in staying[: max(0, -missing)]:
            self.retire(member)

    def _room_to_start(self) -> int:
        """How many may start now: a start takes a processor for a while, and those that serve need theirs too."""
        if not self._ready(self.current):
            return MOST_WORKERS
        starting = sum(member.state is State.STARTING for member in self._rows.values())
        return max(0, _PROCESSORS - starting)

    def _start(self, generation: Generation) -> bool:
        row = next(row for row in range(MOST_WORKERS) if row not in self._rows)
        try:
            member = WorkerHandle(row, generation.number, self._ledger, self._owner.buffers())
        except FdpassError as error:
            self._failed(getattr(error, "strerror", None) or str(error))
            return False
        self._rows[row] = member
        self.height = max(self._rows) + 1
        self._loop.watch(member.child.pidfd.fileno(), lambda: self._on_end(member))
        if not self._owner.set_up(member, generation):
            member.failure = {"sentence": "a worker was started, but the kernel did not take its first message"}
            member.kill()  # its end is that of a start that failed
            return False
        return True

    # What happens to them

    def on_ready(self, member: WorkerHandle) -> None:
        """A worker says that it can serve."""
        if member.state is not State.STARTING:
            return
        member.move(State.READY)
        member.served = True
        self.started = True
        self._backoff.succeeded()
        self.trouble = ""
        seconds = time.monotonic() - member.began
        log.info("worker %d is ready (generation %d, %.1f s)", member.pid, member.generation, seconds)
        self.reconcile()

    def on_leaving(self, member: WorkerHandle) -> None:
        """A worker was asked to go, or is to be replaced: new before old."""
        member.outgoing = True
        self.reconcile()

    def retire(self, member: WorkerHandle, word: bytes = messages.RETIRE) -> None:
        """Let a worker finish, and go."""
        if member.state is State.STARTING:
            member.kill()
        member.outgoing = True
        if member.state is not State.RETIRING:
            self._owner.leaving(member)
            member.move(State.RETIRING)
        member.tell(word)
        if not self.stopping:  # else its time runs since `stop`
            member.limit(self.current.config.graceful_timeout + _GRACE)

    def bury(self, member: WorkerHandle) -> None:
        """Wait for the end of a worker that was killed, and draw the consequences."""
        self._on_end(member)

    def _on_end(self, member: WorkerHandle) -> None:
        self._loop.unwatch(member.child.pidfd.fileno())
        before, member.outgoing = member.state, True
        if before is not State.RETIRING:
            self._owner.leaving(member)
        if not self.stopping:
            self._activate()  # a spare one, so that what this one had need not wait
        became = self._owner.gone(member)
        status = member.close()
        member.move(State.GONE)
        del self._rows[member.row]
        self.height = max(self._rows, default=-1) + 1
        if before is State.STARTING:
            self._on_failed_start(member, ending(status))
        elif before is State.READY and not self.stopping:
            log.error("worker %d ended (%s); another is started%s", member.pid, ending(status), became)
        elif status == 0 or not member.served:
            log.info("worker %d has retired", member.pid)
        else:
            log.warning("worker %d ended while it retired (%s)%s", member.pid, ending(status), became)
        self._replace(time.monotonic() + _FIRST_SECONDS)
        self._owner.settled()

    def _replace(self, latest: float) -> None:
        """First those that are there take over what waits: a start takes a processor for a while."""
        if self._owner.waits() and self._ready(self.current) and time.monotonic() < latest:
            self._loop.call_later(_FIRST_SECONDS / 20, lambda: self._replace(latest))
        else:
            self.reconcile()

    def _on_failed_start(self, member: WorkerHandle, how: str) -> None:
        if self.hopeless:
            return  # this one was killed for it
        sentence = member.failure.get("sentence") or f"a worker ended before it was ready ({how})"
        details = member.failure.get("details", "")
        if self.candidate is not None and member.generation == self.candidate.number:
            self._abandon(self.candidate, sentence + ("\n" + details.rstrip() if details else ""))
            return
        self._failed(sentence, details, final=bool(member.failure.get("final")))

    def _failed(self, sentence: str, details: str = "", *, final: bool = False) -> None:
        late = time.monotonic() - self._began > self.current.config.start_timeout
        if not self.started and (final or late):
            self.hopeless = sentence + ("\n" + details.rstrip() if details and sentence != self.trouble else "")
            return
        if sentence != self.trouble:  # the application's own traceback once, not at each try
            self.trouble = sentence
            log.error("%s%s", sentence, "\n" + details.rstrip() if details else "")
        log.warning("a worker could not be started: trying again in %.1f s", self._backoff.failed())

    # Generations

    def reload(self, config: Config, access_log: AccessLog, then: Outcome) -> None:
        """Start the next generation. The current one serves until the next is ready.

        Args:
            config: The settings of the next generation.
            access_log: Its access log. Given.
            then: Learns the outcome. It must not begin another reload.
        """
        candidate = self._generations.begin(config, access_log, then)
        log.info("reload: generation %d is started", candidate.number)
        self.reconcile()

    def _switch(self, candidate: Generation) -> None:
        self._generations.switch(self.members)
        self._generations.tell("")
        log.info("reload: generation %d serves", candidate.number)

    def _abandon(self, candidate: Generation, why: str) -> None:
        self._generations.drop()
        log.error("reload: generation %d goes on, for the next did not start: %s", self.current.number, why)
        for member in self._staying(candidate):
            self.retire(member)
            member.kill()
        self._generations.tell(why)
        self.reconcile()

    def reopen_logs(self) -> None:
        """Open the access log of each generation again, and let its workers write to the new file.

        Raises:
            CallFailed: The access log cannot be opened; the one before is used on.
        """
        self._generations.reopen_logs(self.members)

    def scale(self, target: int) -> None:
        """Have so many workers."""
        self._generations.scale(target)
        self.reconcile()

    def stop(self) -> None:
        """Start nobody any more; the time in which all of them have to go begins. They are told by `retire`."""
        self.stopping = True
        self._generations.drop()
        self._generations.tell("the server is stopping")
        self._backoff.cancel()
        for member in self.members:
            member.limit(self.current.config.graceful_timeout + _GRACE)

    def kill(self) -> None:
        """End all of them at once."""
        for member in self.members:
            member.kill()

    def close(self) -> None:
        """All workers have ended: close the access logs."""
        self._generations.close()
