"""`Connections`: all connections of the server: their slots, whose each is, and sums that always agree. Pure.

Each connection has a *slot* from its acceptance to its end: a number below the most connections that there may be.
At all times accepted = finished + live + lost. Who has each connection is in the estate, for the next dispatcher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fdpass.serve.keeper.estate import FREE, HELD, Estate, Head, offered_to, owned_by, row_of
from fdpass.serve.shared.ledger import MOST_WORKERS

_FINISHED, _LOST, _HANDED, _REHANDED = map(int, (Head.FINISHED, Head.LOST, Head.HANDED, Head.REHANDED))


class Connections:
    """Knows who has each connection.

    Args:
        estate: Has OWNER of each slot. Lent.
        holders: HOLDER of each slot, in the ledger: see `keeper.estate`. Lent.

    Attributes:
        most: How many connections may live at once.
        accepted: How many connections were ever accepted.
        live_of: For each row of the ledger, how many connections its worker has, slots offered to it included.
    """

    def __init__(self, estate: Estate, holders: memoryview) -> None:
        self.most = estate.most
        self.accepted = 0
        self.live_of = [0] * MOST_WORKERS
        self._head = estate.head
        self._owners = estate.owners
        self._holders = holders
        self._high = 0  # all slots used so far are below
        self._free: list[int] = []  # slots below that which are free
        self._offered = 0

    @property
    def finished(self) -> int:
        """How many connections have ended normally."""
        return self._head[_FINISHED]

    @property
    def lost(self) -> int:
        """How many connections have ended with their worker, or because no process had room for them."""
        return self._head[_LOST]

    @property
    def handed(self) -> int:
        """How many times a connection was handed to a worker."""
        return self._head[_HANDED]

    @property
    def rehanded(self) -> int:
        """How many times a connection came back from a worker, to be handed to another."""
        return self._head[_REHANDED]

    @property
    def live(self) -> int:
        """Connections that were accepted, and have neither finished nor been lost."""
        return self.accepted - self.finished - self.lost

    @property
    def available(self) -> int:
        """How many more connections may live."""
        return self.most - self.live - self._offered

    def accept(self) -> int:
        """The dispatcher has accepted a connection, and holds it. Returns its slot."""
        self.accepted += 1
        slot = self._free_slot()
        self._owners[slot] = HELD
        self._holders[slot] = 0
        return slot

    def hand(self, slots: Sequence[int], row: int) -> None:
        """The dispatcher hands these connections to the worker in this row, now."""
        owners, owner = self._owners, owned_by(row)
        for slot in slots:
            owners[slot] = owner
        self._head[_HANDED] += len(slots)
        self.live_of[row] += len(slots)

    def unhand(self, slots: Sequence[int], row: int) -> None:
        """The worker's channel had no space for these connections: the dispatcher holds them again."""
        for slot in slots:
            self._owners[slot] = HELD
        self._head[_HANDED] -= len(slots)
        self.live_of[row] -= len(slots)

    def take_back(self, slot: int) -> None:
        """The dispatcher holds a connection again, which its worker gave back or had not taken."""
        self.live_of[row_of(self._owners[slot])] -= 1
        self._owners[slot] = HELD
        self._holders[slot] = 0
        self._head[_REHANDED] += 1

    def finish(self, slot: int, row: int) -> bool:
        """The worker in this row reports the end of a connection. False, and no change, if it has none there."""
        if not self.is_of(slot, row):
            return False
        self.live_of[row] -= 1
        self._release(slot)
        self._head[_FINISHED] += 1
        return True

    def lose(self, slot: int, row: int) -> bool:
        """The worker in this row reports that a connection is lost. False, and no change, if it has none there."""
        if not self.is_of(slot, row):
            return False
        self.live_of[row] -= 1
        self._release(slot)
        self._head[_LOST] += 1
        return True

    def drop(self, slot: int) -> None:
        """The dispatcher has closed a connection that it held."""
        self._release(slot)
        self._head[_LOST] += 1

    def slots_of(self, row: int) -> list[int]:
        """The slots of the connections that the worker in this row has."""
        return self._slots(owned_by(row))

    def _slots(self, wanted: int) -> list[int]:
        return [slot for slot, owner in enumerate(self._owners[: self._high].tolist()) if owner == wanted]

    def lose_all(self, row: int) -> int:
        """All connections of the worker in this row are lost. Returns how many."""
        slots = self.slots_of(row)
        for slot in slots:
            self._release(slot)
        self._head[_LOST] += len(slots)
        self.live_of[row] -= len(slots)
        return len(slots)

    # With ``--accept worker``

    def offer(self, row: int) -> int:
        """A slot for a connection that the worker in this row may accept."""
        self._offered += 1
        self.live_of[row] += 1
        slot = self._free_slot()
        self._holders[slot] = 0  # before: HOLDER says whether the worker has used the slot
        self._owners[slot] = offered_to(row)
        return slot

    def settle(self, slots: Sequence[int], used: int, row: int) -> None:
        """Of the slots that were offered to the worker in this row, the first ``used`` have a connection now."""
        self._offered -= len(slots)
        self.accepted += used
        self.live_of[row] -= len(slots)
        self.hand(slots[:used], row)
        for slot in slots[used:]:
            self._release(slot)

    def settle_offered(self, row: int) -> None:
        """As `settle`, with all slots that were offered to a worker by a dead dispatcher, by their HOLDER."""
        slots = self._slots(offered_to(row))
        used = [slot for slot in slots if self._holders[slot]]
        self.settle(used + [slot for slot in slots if not self._holders[slot]], len(used), row)

    def is_offered(self, slot: int, row: int) -> bool:
        """Whether the slot is offered to the worker in this row."""
        return slot < self._high and self._owners[slot] == offered_to(row)

    def is_of(self, slot: int, row: int) -> bool:
        """Whether the worker in this row has the connection in this slot."""
        return slot < self._high and self._owners[slot] == owned_by(row)

    def _free_slot(self) -> int:
        if self._free:
            return self._free.pop()
        slot = self._high
        self._high = self._head[Head.HIGH] = slot + 1
        return slot

    def _release(self, slot: int) -> None:
        self._owners[slot] = FREE
        self._free.append(slot)

    # From one dispatcher to the next

    def hold(self, slot: int) -> None:
        """The dispatcher before held this connection, and may have died before it had stored HOLDER."""
        self._holders[slot] = 0

    def adopt(self) -> list[int]:
        """Count what the dispatcher before has left. The sum that its last store was to change may be 1 too small.

        Returns:
            OWNER of each slot that was ever used.
        """
        head, most = self._head, self.most
        self._high = min(head[Head.HIGH], most)
        owners: list[int] = self._owners[: self._high].tolist()
        counts = Counter(owners)
        if counts[FREE]:
            self._free = [slot for slot in reversed(range(self._high)) if owners[slot] == FREE]
        for owner, count in counts.items():
            if (row := row_of(owner)) >= 0:
                self.live_of[row] += count
            elif owner < FREE:
                self.live_of[offered_to(0) - owner] += count
                self._offered += count
        self.accepted = self.finished + self.lost + self._high - len(self._free) - self._offered
        return owners

    def discard(self, slot: int) -> None:
        """The dispatcher before had put no connection into this slot yet, or had closed the connection."""
        if (row := row_of(self._owners[slot])) >= 0:
            self.live_of[row] -= 1
        self.accepted -= 1
        self._release(slot)
