"""The dispatcher: the loop in which listeners, workers, ledger, control socket and signals meet."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from fdpass.errors import FdpassError, ProtocolError, StartFailed
from fdpass.fd import Fd
from fdpass.memory import common, mapped
from fdpass.serve import host, messages, setup
from fdpass.serve.accepting import Accepting
from fdpass.serve.accounts import Accounts
from fdpass.serve.balance import BALANCES
from fdpass.serve.config import Config
from fdpass.serve.custody import Custody
from fdpass.serve.generation import Generation
from fdpass.serve.ledger import BEAT_SECONDS, SIZE, Ledger
from fdpass.serve.listener import Listening
from fdpass.serve.loop import Loop
from fdpass.serve.member import Member
from fdpass.serve.passing import Passing
from fdpass.serve.pool import Pool
from fdpass.serve.slots import BUFFER_SIZE
from fdpass.serve.turning import Turning
from fdpass.serve.upkeep import Upkeep

log = logging.getLogger("fdpass.serve")
_DONTWAIT = int(socket.MSG_DONTWAIT)
_MOST_PULLS = 64
_NOTES_SECONDS = 0.005
_UPKEEP_EVERY = 3  # beats
_FULL_SECONDS = 10.0  # until it is said again that a worker has no room


class Dispatcher:
    """Listens, chooses, hands over, and looks after the workers.

    Args:
        loop: Its loop.
        config: The settings.
        listeners: Where it listens. Lent.
        capacity: The most connections of one worker.
        most: The most connections of all.
        access_log: The access log, if any. Lent.

    Attributes:
        accounts: The books.
        pool: The workers.
        on_settled: Called whenever something has ended that somebody may wait for.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        listeners: Sequence[Listening],
        *,
        capacity: int,
        most: int,
        access_log: Fd | None,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._access_log = access_log
        self._passes = config.accept == "dispatcher"
        self._stopping = False
        self._looks = 0
        self.accounts = Accounts(most)
        self.on_settled: Callable[[], None] = lambda: None
        self._memory = common(SIZE, name="fdpass-ledger")
        self._map = mapped(self._memory)
        self.ledger = Ledger(self._map)
        self.custody = Custody(loop, most, config.replay) if config.keeps else None
        self._buffers = BUFFER_SIZE * host.buffers_each(config)
        balance = BALANCES[config.balance]()
        needs = (loop, listeners, self.accounts, self.ledger, balance, capacity)
        self._accepting: Accepting = Passing(*needs, custody=self.custody) if self._passes else Turning(*needs)
        self._accepting.hear = self._read_notes_again
        self._heard = 0.0
        self._ended: list[int] = []
        self.pool = Pool(loop, self.ledger, self, config)
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
        self.pool.kill()
        while self.pool.members:
            for member in self.pool.members:
                self.pool.bury(member)
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

    def reopen(self, access_log: Fd) -> None:
        """Let the workers write to another access log. Lent; the one before may be closed now."""
        self._access_log = access_log
        for member in self.pool.members:
            member.tell(messages.LOG, [access_log.fileno()])

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

    def set_up(self, member: Member, generation: Generation) -> None:
        """See `owner.Owner`."""
        kept = [] if self.custody is None or member.buffers is None else [self.custody.memory, member.buffers]
        data, fds = setup.packed(
            generation.config,
            member.row,
            self._listeners,
            ledger=self._memory,
            access_log=self._access_log,
            kept=kept,
        )
        member.send(data, fds)
        self._loop.watch(member.talk.sock.fileno(), lambda: self._on_channel(member))

    def ready(self, member: Member) -> None:
        """See `owner.Owner`."""
        self._accepting.add(member)
        self._accepting.go_on()

    def leaving(self, member: Member) -> None:
        """See `owner.Owner`."""
        if not self.pool.stopping:  # else nobody else would have it
            self._accepting.take_back(member)  # what it has not read need not wait for its end
        self._accepting.remove(member)
        self._accepting.go_on()

    def gone(self, member: Member) -> str:
        """See `owner.Owner`."""
        self._read_notes()
        self._on_channel(member, most=sys.maxsize)  # its last words
        self._loop.unwatch(member.talk.sock.fileno())
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
        self.on_settled()

    # What a worker tells

    def _on_channel(self, member: Member, *, most: int = _MOST_PULLS) -> None:
        talk = member.talk
        try:
            for _ in range(most):
                if not talk.pull(_DONTWAIT) or talk.ended:
                    break
            while talk.inbox:
                self._hear(member, talk.take().data)
        except (FdpassError, ValueError, RecursionError) as error:
            # Its messages are a stranger's: a worker that sends nonsense is not to be trusted with connections.
            log.error("worker %d is killed: %s", member.pid, error)  # noqa: TRY400 - its nonsense, not our traceback
            self._loop.unwatch(talk.sock.fileno())
            member.kill()
        if talk.ended:
            self._loop.unwatch(talk.sock.fileno())

    def _hear(self, member: Member, data: bytes) -> None:
        word = data[:1]
        if word == messages.FINISHED:
            self._forget(member, messages.slots_of(data), shut=True)
            self._accepting.go_on()
        elif word == messages.RETURNED and isinstance(self._accepting, Passing) and self.custody is not None:
            self._accepting.give_back(member, messages.slots_of(data))
        elif word == messages.MOVED and isinstance(self._accepting, Passing) and self.custody is not None:
            slot, read = messages.replayed(data)
            self._accepting.give_back(member, [slot], read)
        elif word == messages.ACCEPTED and isinstance(self._accepting, Turning):
            self._accepting.took(member, list(messages.slots_of(data)))
        elif word == messages.DROPPED:
            self._drop(member, messages.slots_of(data))
        elif word == messages.ROOM:
            self._accepting.room(member)
        elif word == messages.READY:
            self.pool.on_ready(member)
        elif word == messages.FAILED:
            member.failure = _failure(data)
        elif word == messages.LEAVING:
            self.pool.on_leaving(member)
        else:
            raise ProtocolError(f"it sent a message of an unknown kind: {data[:16]!r}")

    def _read_notes_again(self) -> None:
        if time.monotonic() - self._heard > _NOTES_SECONDS:  # not for each of a thousand connections a second
            self._read_notes()

    def _read_notes(self) -> None:
        """Which connections have ended, say the workers in the ledger."""
        self._heard = time.monotonic()
        before, self._ended = self._ended, self.ledger.ended[: self.pool.height].tolist()
        if self._ended == before:
            return
        before += [0] * (len(self._ended) - len(before))
        for row in [row for row, ended in enumerate(self._ended) if ended != before[row]]:
            member = self.pool.at(row)
            if member is None:
                continue
            try:
                self._forget(member, self.ledger.read_notes(member.row), shut=False)
            except ProtocolError as error:
                log.error("worker %d is killed: %s", member.pid, error)  # noqa: TRY400 - see `_on_channel`
                member.kill()

    def _forget(self, member: Member, slots: Sequence[int], *, shut: bool) -> None:
        finish, row = self.accounts.finish, member.row
        count = 0
        try:
            for slot in slots:
                if not finish(slot, row):
                    raise ProtocolError("it reports the end of a connection that it does not have")
                count += 1
        finally:  # those before a false one have ended
            member.live -= count
            if self.custody is not None:
                (self.custody.shut if shut else self.custody.end)(slots[:count])
            self._accepting.refresh(member)

    def _drop(self, member: Member, slots: Sequence[int]) -> None:
        """The worker's table of descriptors was full."""
        if time.monotonic() > member.full + _FULL_SECONDS:
            member.full = time.monotonic()
            log.error("worker %d had no room for %d connection(s) that were passed to it", member.pid, len(slots))
        self._accepting.refuse(member)
        if self.custody is not None and isinstance(self._accepting, Passing):
            self._accepting.give_back(member, slots)
            return
        for slot in slots:
            if not self.accounts.lose(slot, member.row):
                raise ProtocolError("it reports a connection that it does not have")
            member.live -= 1
        self._accepting.refresh(member)


def _failure(data: bytes) -> dict[str, Any]:
    told = json.loads(data[1:])
    if not isinstance(told, dict):
        raise ProtocolError("it says nothing sensible about why it did not start")
    return {
        "sentence": str(told.get("sentence", "")),
        "details": str(told.get("details", "")),
        "final": told.get("final") is True,
    }
