"""How a new dispatcher takes over the connections of the dead one: `Adoption`, and the same without custody.

It does so in two steps: `begin`, before it accepts anything; and `settle` for each worker, once the worker has
sent SYNCED. Until then the worker gets no connection. `fates` has the tables, and `keeper.estate` explains them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, Protocol

from fdpass.serve.dispatcher.accept.by_dispatcher import ByDispatcher
from fdpass.serve.dispatcher.accept.by_worker import ByWorker
from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.dispatcher.custody import Custody
from fdpass.serve.dispatcher.fates import Fate, fate_at_start, fate_when_synced
from fdpass.serve.dispatcher.passing import Passing
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.keeper.estate import FREE, HELD, Estate, owned_by, row_of
from fdpass.serve.shared.ledger import MOST_WORKERS, Ledger


class Adopting(Protocol):
    """What the classes below have in common."""

    def begin(self, rows: Collection[int], accepted: Iterable[tuple[int, Any]]) -> int:
        """Take over all connections that no worker has.

        Args:
            rows: The rows of the workers that the estate has.
            accepted: Connections that no word of the estate names, with their clients' addresses: the dead
                dispatcher had accepted them a moment before. Given.

        Returns:
            How many connections there are now.
        """

    def settle(self, worker: WorkerHandle) -> None:
        """A worker has sent SYNCED, and its ring has been read: take over the connections it does not have.

        Args:
            worker: The worker.
        """


class Parts(NamedTuple):
    """What takes part in the adoption of a server in which the dispatcher accepts.

    Attributes:
        estate: What the dead dispatcher has left. Lent.
        connections: All connections; has counted none yet.
        acceptor: Gets the connections that need another worker.
        ledger: Has HOLDER of each connection.
        serial: The serial number of this dispatcher.
    """

    estate: Estate
    connections: Connections
    acceptor: ByDispatcher
    ledger: Ledger
    serial: int


class _Accepting:
    """The connections of a server in which the dispatcher accepts."""

    def __init__(self, parts: Parts) -> None:
        self._estate, self._connections, self._acceptor, self._ledger, self._serial = parts

    def begin(self, rows: Collection[int], accepted: Iterable[tuple[int, Any]]) -> int:
        """See `Adopting.begin`."""
        owners = self._connections.adopt()
        numbers = self._estate.numbers[: len(owners)].tolist()
        living = {owned_by(row) for row in rows}
        for slot, (owner, number) in enumerate(zip(owners, numbers, strict=True)):
            if not number or owner not in living:  # else its worker lives: nothing is to be done
                self._begin_one(slot, owner, number, rows)
        for fd, client in accepted:
            self._acceptor.adopt_accepted(fd, client)
        return self._connections.live

    def settle(self, worker: WorkerHandle) -> None:
        """See `Adopting.settle`."""
        ledger, row = self._ledger, worker.row
        ledger.starved[row] = 0
        holders = ledger.holders
        fates = dict[int, Fate]()  # of the few values that HOLDER has
        for slot in self._connections.slots_of(row):
            holder = holders[slot]
            fate = fates.get(holder) or fates.setdefault(holder, fate_when_synced(holder, self._serial))
            if fate is not Fate.NOTHING:
                self._settle_one(slot, fate, worker)
        worker.sent = ledger.taken[row]

    def _begin_one(self, slot: int, owner: int, number: int, rows: Collection[int]) -> None:
        raise NotImplementedError

    def _settle_one(self, slot: int, fate: Fate, worker: WorkerHandle) -> None:
        raise NotImplementedError

    def _queue_held(self, slot: int) -> None:
        self._connections.hold(slot)
        self._acceptor.adopt_held(slot)


class Adoption(_Accepting):
    """The same with custody, which has the dispatcher's descriptors."""

    def __init__(self, parts: Parts, custody: Custody) -> None:
        super().__init__(parts)
        self._custody = custody

    def _begin_one(self, slot: int, owner: int, number: int, rows: Collection[int]) -> None:
        fate = fate_at_start(owner, number, rows)
        if fate is Fate.CLOSE:
            self._custody.shut_down([slot])
        elif fate is Fate.DISCARD:
            self._connections.discard(slot)
        elif fate is Fate.QUEUE:
            self._queue_held(slot)
        elif fate is Fate.RECOVER:
            self._acceptor.recover_slot(slot, row_of(owner), None)

    def _settle_one(self, slot: int, fate: Fate, worker: WorkerHandle) -> None:
        if fate is Fate.QUEUE:
            self._acceptor.adopt_unsent(slot)
        elif fate is Fate.CLOSE:
            self._connections.finish(slot, worker.row)
            self._custody.shut_down([slot])
        elif fate is Fate.RECOVER:
            holders = self._ledger.holders
            before = holders[slot]
            self._acceptor.recover_slot(slot, worker.row, worker.buffers_map)
            if holders[slot] == before:  # it has ended: the worker need not keep what it has read
                holders[slot] = 0


class PassingAdoption(_Accepting):
    """The same without custody.

    The dispatcher has a descriptor only until the worker has the connection. If it died in between, HOLDER says
    whether the worker has it.
    """

    def __init__(self, parts: Parts, passing: Passing) -> None:
        super().__init__(parts)
        self._passing = passing

    def _begin_one(self, slot: int, owner: int, number: int, rows: Collection[int]) -> None:
        if owner == HELD and number:
            self._queue_held(slot)
        elif owner == HELD:
            self._connections.discard(slot)
        elif owner == FREE:
            self._passing.end([slot])
        elif row_of(owner) not in rows:
            self._passing.end([slot])
            self._connections.lose(slot, row_of(owner))

    def settle(self, worker: WorkerHandle) -> None:
        """See `Adopting.settle`."""
        super().settle(worker)
        self._passing.end(self._connections.slots_of(worker.row))  # the worker has these connections

    def _settle_one(self, slot: int, fate: Fate, worker: WorkerHandle) -> None:
        if fate is Fate.QUEUE and self._passing.fd(slot) >= 0:
            self._acceptor.adopt_unsent(slot)
            return
        self._passing.end([slot])
        if fate is Fate.CLOSE:
            self._connections.finish(slot, worker.row)
        else:
            # It was dropped; or the dead dispatcher had read it out of the channel, and had not stored NUMBER.
            self._connections.lose(slot, worker.row)


class TurnsAdoption:
    """The connections of a server in which workers accept. The dispatcher has none.

    Args:
        connections: All connections; has counted none yet.
        acceptor: Settles the turns of workers.
        ledger: Has HOLDER of each connection.
        serial: The serial number of this dispatcher.
    """

    def __init__(self, connections: Connections, acceptor: ByWorker, ledger: Ledger, *, serial: int) -> None:
        self._connections = connections
        self._acceptor = acceptor
        self._ledger = ledger
        self._serial = serial

    def begin(self, rows: Collection[int], accepted: Iterable[tuple[int, Any]]) -> int:
        """See `Adopting.begin`."""
        self._connections.adopt()
        for row in set(range(MOST_WORKERS)) - set(rows):
            if self._connections.live_of[row]:
                self._connections.settle_offered(row)
                self._connections.lose_all(row)
        for fd, _ in accepted:  # there should be none
            os.close(fd)
        return self._connections.live

    def settle(self, worker: WorkerHandle) -> None:
        """See `Adopting.settle`."""
        ledger, row = self._ledger, worker.row
        ledger.starved[row] = 0
        self._acceptor.adopt_turns(worker)
        for slot in self._connections.slots_of(row):
            if fate_when_synced(ledger.holders[slot], self._serial) is Fate.CLOSE:
                self._connections.finish(slot, row)
