"""The dispatcher: accepts connections, hands them to workers, and looks after the workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fdpass._fd import Fd
from fdpass._memory import common, mapped
from fdpass.errors import StartFailed
from fdpass.serve.dispatcher import limits
from fdpass.serve.dispatcher.accept.balance import BALANCES
from fdpass.serve.dispatcher.accept.base import Accepting
from fdpass.serve.dispatcher.accept.by_dispatcher import ByDispatcher
from fdpass.serve.dispatcher.accept.by_worker import ByWorker
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.loop import Loop
from fdpass.serve.dispatcher.pool.generation import Generation
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.upkeep import Upkeep
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.dispatcher.worker_messages import WorkerMessages
from fdpass.serve.shared import messages, setup
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.ledger import BEAT_SECONDS, SIZE, Ledger
from fdpass.serve.shared.slots import BUFFER_SIZE

log = logging.getLogger("fdpass.serve")
_UPKEEP_EVERY = 3  # beats


class Dispatcher:
    """Listens, chooses, hands over, and looks after the workers.

    Args:
        loop: Its loop.
        config: The settings.
        listeners: Where it listens. Lent.
        capacity: The most connections of one worker.
        most: The most connections of all.
        access_log: The access log of the first workers. Given.
        settled: Called whenever something has ended that somebody may wait for.

    Attributes:
        accounts: The books.
        pool: The workers.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        listeners: Sequence[Listening],
        *,
        capacity: int,
        most: int,
        access_log: AccessLog,
        settled: Callable[[Pool], None],
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._settled = settled
        self._stopping = False
        self._looks = 0
        self.accounts = Connections(most)
        self._memory = common(SIZE, name="fdpass-ledger")
        self._map = mapped(self._memory)
        self.ledger = Ledger(self._map)
        self.custody = Custody(loop, most, config.replay) if config.keeps else None
        self._buffers = BUFFER_SIZE * limits.buffers_each(config)
        balance = BALANCES[config.balance]()
        needs = (loop, listeners, self.accounts, self.ledger, balance, capacity)
        passes = config.accept == "dispatcher"
        self._accepting: Accepting = ByDispatcher(*needs, custody=self.custody) if passes else ByWorker(*needs)
        self.pool = Pool(loop, self.ledger, self, config, access_log)
        self._messages = WorkerMessages(loop, self._accepting, self.pool)
        self._upkeep = Upkeep(loop, self.ledger, self.pool)

    def run(self) -> None:
        """Serve until `stop`, or until it is clear that no worker will start.

        Raises:
            StartFailed: No worker became ready.
        """
        self.pool.reconcile()
        self._look()
        self._loop.run()
        if self.pool.hopeless:
            raise StartFailed(self.pool.hopeless)

    def close(self) -> None:
        """End what is left: workers (at once), and what waits for one."""
        self._accepting.close()
        self.pool.stop()
        self.pool.kill()
        while self.pool.members:
            for member in self.pool.members:
                self.pool.bury(member)
        self.pool.close()
        self._accepting.drop()
        if self.custody is not None:
            self.custody.close()
        self.ledger.release()
        self._map.close()
        self._memory.close()

    def stop(self) -> None:
        """Accept nothing more; finish what is in progress; then `run` returns. The second time, at once."""
        if self._stopping:
            log.warning("stopping at once")
            self.pool.kill()
            return
        self._stopping = True
        log.info("stopping: what is in progress is finished")
        self.pool.stop()
        self._accepting.drain(self._end)

    def _end(self) -> None:
        """All that was to be had is with the workers: they finish, and go."""
        for member in self.pool.members:
            self.pool.retire(member, messages.END)
        self.settled()

    def _look(self) -> None:
        self._loop.call_later(BEAT_SECONDS, self._look)
        for member in self.pool.members:
            member.talk.flush()  # what found no room in its channel
        self._accepting.look()
        self._looks += 1
        if self._looks % _UPKEEP_EVERY == 0:
            self._upkeep.look()

    # What the pool asks and tells

    def buffers(self) -> Fd | None:
        """See `owner.Owner`."""
        return None if self.custody is None else common(self._buffers, name="fdpass-buffers")

    def set_up(self, member: WorkerHandle, generation: Generation) -> bool:
        """See `owner.Owner`."""
        kept = [] if self.custody is None or member.buffers is None else [self.custody.memory, member.buffers]
        data, fds = setup.packed(
            generation.config,
            member.row,
            [each.sock for each in self._listeners],
            ledger=self._memory,
            access_log=generation.access_log.fd,
            kept=kept,
        )
        self._messages.watch(member)
        return member.send(data, fds)

    def ready(self, member: WorkerHandle) -> None:
        """See `owner.Owner`."""
        self._accepting.add(member)
        self._accepting.go_on()

    def leaving(self, member: WorkerHandle) -> None:
        """See `owner.Owner`."""
        if not self.pool.stopping:  # else nobody else would have it
            self._accepting.take_back(member)  # what it has not read need not wait for its end
        self._accepting.remove(member)
        self._accepting.go_on()

    def gone(self, member: WorkerHandle) -> str:
        """See `owner.Owner`."""
        self._accepting.hear()
        self._messages.read_last(member)
        became = self._accepting.gone(member)
        self._accepting.go_on()
        return became

    def waits(self) -> bool:
        """See `owner.Owner`."""
        return self._accepting.waits

    def settled(self) -> None:
        """See `owner.Owner`."""
        if self.pool.hopeless or (self._stopping and not self.pool.members):
            self._loop.stop()
        self._settled(self.pool)
