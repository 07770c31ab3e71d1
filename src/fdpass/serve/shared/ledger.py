"""The layout of the ledger: the shared memory in which each worker keeps its own counters. Pure.

`Ledger` works on any writable buffer. The ledger is an array of 64-bit words in columns, so that one figure of all
workers lies side by side for the dispatcher. Each word has one writer, which stores it with a single aligned
store: a reader finds the old value or the new one, never a mixture. `Column` describes the columns.

Behind the columns each worker has a *ring* of `RING` words, in which it notes the slots of ended connections, so
that no message per connection is sent or read. The lower half of a word is the slot, the upper half is the lower
half of ENDED: the dispatcher recognises a word that the worker has not stored yet, in whatever order a processor
makes the stores visible.

A worker could write into another worker's words. What the dispatcher reads here decides about balance and figures,
never about ownership.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Self

MOST_WORKERS = 1024
"""The number of rows: workers at a time, starting and retiring ones included."""

BEAT_SECONDS = 0.1
"""The time from one store of BEAT to the next."""


class Column(IntEnum):
    """The columns, in their order.

    Attributes:
        writer: The process that stores the column's words.
        meaning: What a word holds.
    """

    writer: str
    meaning: str

    def __new__(cls, value: int, writer: str, meaning: str) -> Self:
        """Make a number that carries its description."""
        column = int.__new__(cls, value)
        column._value_ = value
        column.writer, column.meaning = writer, meaning
        return column

    BEAT = 0, "worker", "monotonic clock in ns, stored by the worker's event loop ten times a second"
    LAG = 1, "worker", "how late the event loop was at the last beat, in ns"
    TAKEN = 2, "worker", "connections that the worker has taken out of its channel, ever"
    ACCEPTED = 3, "worker", "connections that the worker has accepted itself (`--accept worker`), ever"
    REQUESTS = 4, "worker", "requests in progress at the last beat"
    HANDLED = 5, "worker", "requests finished by the last beat, ever"
    STARVED = 6, "dispatcher", "1 while the dispatcher waits for this worker to take something, else 0"
    ENDED = 7, "worker", "ended connections that the worker has noted in its ring, ever"
    SEEN = 8, "dispatcher", "ended connections of the ring that the dispatcher has read, ever"
    TOLD = 9, "worker", "WebSockets whose clients the worker has told to connect again by the last beat, ever"


RING = 1024
"""The number of ended connections that can wait to be read, per worker."""

SIZE = 8 * MOST_WORKERS * (len(Column) + RING)
"""Bytes of a ledger. The kernel allocates each page at its first write."""

_HALF = 0x7FFFFFFF


class Ledger:
    """Views of all columns and rings.

    Args:
        buffer: Writable, of `SIZE` bytes, zeros at first. Lent: call `release` before closing it.
    """

    def __init__(self, buffer: Any) -> None:
        words = memoryview(buffer).cast("q")
        if words.nbytes != SIZE:
            raise ValueError(f"a ledger has {SIZE} bytes, not {words.nbytes}")
        columns = [words[column * MOST_WORKERS : (column + 1) * MOST_WORKERS] for column in Column]
        self.beat, self.lag, self.taken, self.accepted, self.requests, self.handled, *more = columns
        self.starved, self.ended, self.seen, self.told = more
        self._rings = words[MOST_WORKERS * len(Column) :]
        self._columns = columns
        self._views = [*columns, self._rings, words]

    def clear(self, row: int) -> None:
        """Zero the row of a worker that is about to start."""
        for column in self._columns:
            column[row] = 0
        for place in range(row * RING, (row + 1) * RING):
            self._rings[place] = 0

    def note(self, row: int, slot: int) -> bool:
        """Note that a connection of this worker has ended; False if the ring is full."""
        count = self.ended[row]
        if count - self.seen[row] >= RING:
            return False
        self._rings[row * RING + count % RING] = (count + 1 & _HALF) << 32 | slot
        self.ended[row] = count + 1
        return True

    def read_notes(self, row: int) -> list[int]:
        """Return the slots that this worker has noted since the last call; stop at a word with a wrong count."""
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
        """Release the views, so that the memory can be unmapped."""
        for view in self._views:
            view.release()
