"""The layout of the ledger: the shared memory in which each worker keeps its own counters. Pure.

`Ledger` works on any writable buffer. The ledger is an array of 64-bit words in columns, so that one figure of all
workers lies side by side for the dispatcher. Each word has one writer, which stores it with a single aligned
store: a reader finds the old value or the new one, never a mixture. `Column` describes the columns.

Behind the columns each worker has a *ring* of `RING` words, in which it notes the slots of ended connections, so
that no message per connection is sent or read. The lower half of a word is the slot, the upper half is the lower
half of ENDED: the dispatcher recognises a word that the worker has not stored yet, in whatever order a processor
makes the stores visible.

Behind the rings each worker has its *counts*: how many responses of each class took how long, and how long
connections waited for it. A duration is counted in one of `BUCKETS` buckets, each of which is twice as wide as the
one before.

Behind the counts there is a word HOLDER for each connection, in which its worker stores what it has done with the
connection, before it reports that; see `keeper.estate`.

A worker could write into another worker's words. What the dispatcher reads here decides about balance and figures;
it decides about ownership only once, when a new dispatcher has taken over.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from fdpass.serve.shared.described import Described

MOST_WORKERS = 1024
"""The number of rows: workers at a time, starting and retiring ones included."""

BEAT_SECONDS = 0.1
"""The time from one store of BEAT to the next."""


class Column(Described):
    """The columns, in their order.

    Attributes:
        writer: The process that stores the column's words.
        meaning: What a word holds.
    """

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
    DURATION = 10, "worker", "the sum of the durations of all responses by the last beat, in ns"


RING = 1024
"""The number of ended connections that can wait to be read, per worker."""

BOUNDS = tuple(2**power / 10_000 for power in range(21))
"""The upper bounds of all buckets but the last, in seconds: 100 µs to 104.8576 s. No bucket contains its bound."""

BUCKETS = len(BOUNDS) + 1
"""The number of buckets: the last one counts what took longer."""

CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
"""The classes of responses: RFC 9110, 15."""

COUNTS = (1 + len(CLASSES)) * BUCKETS
"""The number of counts of a worker: the buckets of handoffs, then those of responses of each class, 1xx to 5xx."""

SIZE = 8 * MOST_WORKERS * (len(Column) + RING + COUNTS)
"""Bytes of a ledger without connections. The kernel allocates each page at its first write."""


class Holder(IntEnum):
    """What a worker has done with a connection: HOLDER without its epoch.

    Attributes:
        NOTHING: No worker has got the connection yet, or the dispatcher has it again.
        TAKEN: The worker has taken it out of its channel, or has accepted it.
        ENDED: The connection has ended; the worker reports it in its ring, or with FINISHED.
        UNSHUT: The connection has ended, but the worker could not shut it down: FINISHED.
        RETURNED: The worker gives it back: RETURNED or MOVED.
        DROPPED: The worker's descriptor table had no room for it: DROPPED.
    """

    NOTHING = 0
    TAKEN = 1
    ENDED = 2
    UNSHUT = 3
    RETURNED = 4
    DROPPED = 5


EPOCH = 8
"""HOLDER is one of these, and so many times the worker's epoch."""

_HALF = 0x7FFFFFFF
_NO_COUNTS = memoryview(bytes(8 * COUNTS)).cast("q")


def size_for(most: int) -> int:
    """Bytes of a ledger for so many connections."""
    return SIZE + 8 * most


class Ledger:
    """Views of all columns and rings.

    Args:
        buffer: Writable, of `size_for` bytes, zeros at first. Lent: call `release` before closing it.

    Attributes:
        holders: HOLDER of each connection, by slot.
    """

    def __init__(self, buffer: Any) -> None:
        words = memoryview(buffer).cast("q")
        if words.nbytes < SIZE:
            raise ValueError(f"a ledger has at least {SIZE} bytes, not {words.nbytes}")
        columns = [words[column * MOST_WORKERS : (column + 1) * MOST_WORKERS] for column in Column]
        self.beat, self.lag, self.taken, self.accepted, self.requests, self.handled, *more = columns
        self.starved, self.ended, self.seen, self.told, self.duration = more
        rings = MOST_WORKERS * len(Column)
        counts = rings + MOST_WORKERS * RING
        self._rings, self._counts = words[rings:counts], words[counts : SIZE // 8]
        self.holders = words[SIZE // 8 :]
        self._columns = columns
        self._views = [*columns, self._rings, self._counts, self.holders, words]

    def clear(self, row: int) -> None:
        """Zero the row of a worker that is about to start."""
        for column in self._columns:
            column[row] = 0
        for place in range(row * RING, (row + 1) * RING):
            self._rings[place] = 0
        self._counts[row * COUNTS : (row + 1) * COUNTS] = _NO_COUNTS

    def clear_counts(self, row: int) -> None:
        """Zero what a worker that has ended has counted of its requests."""
        self.handled[row] = self.duration[row] = 0
        self._counts[row * COUNTS : (row + 1) * COUNTS] = _NO_COUNTS

    def counts(self, row: int) -> memoryview:
        """The counts of a worker, see `COUNTS`: a view, to be released before the ledger."""
        return self._counts[row * COUNTS : (row + 1) * COUNTS]

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
