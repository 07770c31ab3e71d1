"""`Connections`: all connections of the server: their slots, whose each is, and sums that always agree. Pure.

Each connection has a *slot* from its acceptance to its end: a number below the most connections that there may be.
At all times accepted = finished + live + lost.
"""

from __future__ import annotations

import array
from collections.abc import Sequence

from fdpass.serve.shared.ledger import MOST_WORKERS

_FREE, _HELD, _OFFERED = -1, -2, -3


class Connections:
    """Knows who has each connection.

    Args:
        most: How many connections may live at once.

    Attributes:
        accepted: How many connections were ever accepted.
        finished: How many of these have ended normally.
        lost: How many of these have ended with their worker, or because no process had room for them.
        handed: How many times a connection was handed to a worker.
        rehanded: How many times a connection came back from a worker, to be handed to another.
        live_of: For each row of the ledger, how many connections its worker has, slots offered to it included.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.accepted = self.finished = self.lost = self.handed = self.rehanded = 0
        self.live_of = [0] * MOST_WORKERS
        self._owners = array.array("i")  # of each slot used so far: a row, or one of the constants above
        self._free: list[int] = []
        self._offered = 0

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
        return self._new_slot(_HELD)

    def hand(self, slots: Sequence[int], row: int) -> None:
        """The dispatcher has handed these connections to the worker in this row."""
        owners = self._owners
        for slot in slots:
            owners[slot] = row
        self.handed += len(slots)
        self.live_of[row] += len(slots)

    def take_back(self, slot: int) -> None:
        """The dispatcher holds a connection again, which its worker gave back or had not taken."""
        self.live_of[self._owners[slot]] -= 1
        self._owners[slot] = _HELD
        self.rehanded += 1

    def finish(self, slot: int, row: int) -> bool:
        """The worker in this row reports the end of a connection. False, and no change, if it has none there."""
        if not self.is_of(slot, row):
            return False
        self.finished += 1
        self.live_of[row] -= 1
        self._release(slot)
        return True

    def lose(self, slot: int, row: int) -> bool:
        """The worker in this row reports that a connection is lost. False, and no change, if it has none there."""
        if not self.is_of(slot, row):
            return False
        self.lost += 1
        self.live_of[row] -= 1
        self._release(slot)
        return True

    def drop(self, slot: int) -> None:
        """The dispatcher has closed a connection that it held."""
        self.lost += 1
        self._release(slot)

    def slots_of(self, row: int) -> list[int]:
        """The slots of the connections that the worker in this row has."""
        return [slot for slot, owner in enumerate(self._owners) if owner == row]

    def lose_all(self, row: int) -> int:
        """All connections of the worker in this row are lost. Returns how many."""
        slots = self.slots_of(row)
        for slot in slots:
            self._release(slot)
        self.lost += len(slots)
        self.live_of[row] -= len(slots)
        return len(slots)

    # With ``--accept worker``

    def offer(self, row: int) -> int:
        """A slot for a connection that the worker in this row may accept."""
        self._offered += 1
        self.live_of[row] += 1
        return self._new_slot(_OFFERED)

    def settle(self, slots: Sequence[int], used: int, row: int) -> None:
        """Of the slots that were offered to the worker in this row, the first ``used`` have a connection now."""
        self._offered -= len(slots)
        self.accepted += used
        self.live_of[row] -= len(slots)
        self.hand(slots[:used], row)
        for slot in slots[used:]:
            self._release(slot)

    def is_of(self, slot: int, row: int) -> bool:
        """Whether the worker in this row has the connection in this slot."""
        return slot < len(self._owners) and self._owners[slot] == row

    def _new_slot(self, owner: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._owners[slot] = owner
            return slot
        self._owners.append(owner)
        return len(self._owners) - 1

    def _release(self, slot: int) -> None:
        self._owners[slot] = _FREE
        self._free.append(slot)
