"""Which connections there are, and whose each is: slots, and sums that always agree. Pure.

Each connection has a *slot*, a number below the most there may be, from its acceptance to its end. At all times
accepted = finished + live + lost.
"""

from __future__ import annotations

import array
from collections.abc import Sequence

_FREE, _HELD, _OFFERED = -1, -2, -3


class Connections:
    """The dispatcher's books.

    Args:
        most: How many connections may live at once.

    Attributes:
        accepted: Connections, ever.
        finished: Of these, how many have ended.
        lost: How many ended with their worker, or for want of room in it.
        handed: How many times one was handed to a worker.
        rehanded: How many came back from a worker, to be handed to another.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.accepted = self.finished = self.lost = self.handed = self.rehanded = 0
        self._owner = array.array("i")  # of each slot used so far: a row, or one of those above
        self._free: list[int] = []
        self._offered = 0

    @property
    def live(self) -> int:
        """Connections that were accepted, and have neither ended nor been lost."""
        return self.accepted - self.finished - self.lost

    @property
    def room(self) -> int:
        """How many more may live."""
        return self.most - self.live - self._offered

    def accept(self) -> int:
        """A connection came, and the dispatcher holds it: its slot."""
        self.accepted += 1
        return self._slot(_HELD)

    def hand(self, slots: Sequence[int], row: int) -> None:
        """These were handed to the worker in this row."""
        owner = self._owner
        for slot in slots:
            owner[slot] = row
        self.handed += len(slots)

    def take_back(self, slot: int) -> None:
        """The worker had not taken it: the dispatcher holds it again."""
        self._owner[slot] = _HELD
        self.rehanded += 1

    def finish(self, slot: int, row: int) -> bool:
        """It ended, says the worker in this row. False, and nothing happens, if it is not that worker's."""
        if not self.is_of(slot, row):
            return False
        self.finished += 1
        self._release(slot)
        return True

    def lose(self, slot: int, row: int) -> bool:
        """It was lost, says the worker in this row. False if it is not that worker's."""
        if not self.is_of(slot, row):
            return False
        self.lost += 1
        self._release(slot)
        return True

    def drop(self, slot: int) -> None:
        """The dispatcher closed one that it held."""
        self.lost += 1
        self._release(slot)

    def slots_of(self, row: int) -> list[int]:
        """The connections of the worker in this row."""
        return [slot for slot, owner in enumerate(self._owner) if owner == row]

    def lose_all(self, row: int) -> int:
        """The worker in this row is dead: how many connections were lost with it."""
        slots = self.slots_of(row)
        for slot in slots:
            self._release(slot)
        self.lost += len(slots)
        return len(slots)

    # Turns: the worker accepts

    def offer(self) -> int:
        """A slot for a connection that a worker may accept."""
        self._offered += 1
        return self._slot(_OFFERED)

    def settle(self, slots: Sequence[int], used: int, row: int) -> None:
        """Of the slots that were offered to the worker in this row, the first ``used`` have a connection now."""
        self._offered -= len(slots)
        self.accepted += used
        self.hand(slots[:used], row)
        for slot in slots[used:]:
            self._release(slot)

    def is_of(self, slot: int, row: int) -> bool:
        """Whether the worker in this row has the connection in this slot."""
        return slot < len(self._owner) and self._owner[slot] == row

    def _slot(self, owner: int) -> int:
        if self._free:
            slot = self._free.pop()
            self._owner[slot] = owner
            return slot
        self._owner.append(owner)
        return len(self._owner) - 1

    def _release(self, slot: int) -> None:
        self._owner[slot] = _FREE
        self._free.append(slot)
