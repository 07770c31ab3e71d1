"""The layout of the ledger: the shared memory in which each worker keeps its own counters, and views on it.

Pure: it works on any writable buffer. The ledger is an array of 64-bit words, in columns, so that the
dispatcher has one figure of all workers side by side. Each word has one writer and is stored with a single
aligned store, so a reader finds the old value or the new one, never a mixture.

===========  ==========  ========================================================================
column       written by  what
===========  ==========  ========================================================================
BEAT         worker      the monotonic clock in ns, stored by its event loop ten times a second
LAG          worker      how late its loop was at the last beat, in ns
TAKEN        worker      connections that it took out of its channel, ever
ACCEPTED     worker      connections that it accepted itself (``--accept worker``), ever
REQUESTS     worker      requests in progress, at the last beat
HANDLED      worker      requests that it had finished by then, ever
STARVED      dispatcher  1 while it waits for this worker to take something
ENDED        worker      connections that it noted in its ring as ended, ever
SEEN         dispatcher  of these, how many it has read
===========  ==========  ========================================================================

Behind the columns each worker has a *ring* of `RING` words, in which it notes the slots of connections that have
ended: no message has to be sent, nor read, for each. A word has the slot in its lower half and the lower half of
ENDED above it, so that a word which is not there yet cannot be taken for one that is, whatever the order in which
a processor makes stores visible.

A worker could write into another's words: what is read here steers balance and figures, never ownership.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

MOST_WORKERS = 1024
"""How many workers one ledger has room for, those that are starting or retiring included."""

BEAT_SECONDS = 0.1
"""How often a worker's event loop stores BEAT."""


class Column(IntEnum):
    """What a word is for."""

    BEAT = 0
    LAG = 1
    TAKEN = 2
    ACCEPTED = 3
    REQUESTS = 4
    HANDLED = 5
    STARVED = 6
    ENDED = 7
    SEEN = 8


RING = 1024
"""How many ended connections may wait to be read."""

SIZE = 8 * MOST_WORKERS * (len(Column) + RING)
"""Bytes of a whole ledger. Pages are taken when they are first written."""

_HALF = 0x7FFFFFFF


class Ledger:
    """All columns.

    Args:
        buffer: Writable, of `SIZE` bytes, zeros at first. Lent: release this object's views before closing it.
    """

    def __init__(self, buffer: Any) -> None:
        words = memoryview(buffer).cast("q")
        if words.nbytes != SIZE:
            raise ValueError(f"a ledger has {SIZE} bytes, not {words.nbytes}")
        columns = [words[column * MOST_WORKERS : (column + 1) * MOST_WORKERS] for column in Column]
        self.beat, self.lag, self.taken, self.accepted, self.requests, self.handled, *more = columns
        self.starved, self.ended, self.seen = more
        self._rings = words[MOST_WORKERS * len(Column) :]
        self._columns = columns
        self._views = [*columns, self._rings, words]

    def clear(self, row: int) -> None:
        """Zeros for a worker that is about to start."""
        for column in self._columns:
            column[row] = 0
        for place in range(row * RING, (row + 1) * RING):
            self._rings[place] = 0

    def note(self, row: int, slot: int) -> bool:
        """A connection of this worker has ended. False if the ring is full."""
        count = self.ended[row]
        if count - self.seen[row] >= RING:
            return False
        self._rings[row * RING + count % RING] = (count + 1 & _HALF) << 32 | slot
        self.ended[row] = count + 1
        return True

    def read_notes(self, row: int) -> list[int]:
        """The slots that this worker has noted since the last call. What it cannot have noted ends the reading."""
        seen, start = self.seen[row], row * RING
        found: list[int] = []
        while len(found) < RING:
            word = self._rings[start + seen % RING]
            if word >> 32 != seen + 1 & _HALF:
                break
            found.append(word & 0xFFFFFFFF)
            seen += 1
        self.seen[row] = seen
        return found

    def release(self) -> None:
        """Give up the views, so that the memory can be unmapped."""
        for view in self._views:
            view.release()
