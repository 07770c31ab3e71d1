"""A worker's receive buffers, in memory that the dispatcher has too: what is read from a connection is never lost.

A buffer is taken while a request is in progress. The last one given back is the first to be taken, so that as many
pages are in use as there were requests at a time; what a large request touched beyond the first page is freed. A
free buffer is all zeros: nobody can ever be handed what another connection has sent (see `slots`).
"""

from __future__ import annotations

import mmap

from fdpass.serve.shared.slots import BUFFER_SIZE

PAGE = mmap.PAGESIZE
_ZEROS = memoryview(bytes(PAGE))


class Buffers:
    """All buffers of a worker.

    Args:
        memory: Of a whole number of buffers. Lent.

    Attributes:
        memory: See above.
        free: The numbers, from 1, of those that nobody has: take the last one. Empty: see `more`.
        views: By number, the bytes of those that were ever taken; nothing at 0.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory
        self.free: list[int] = []
        self.views: list[memoryview] = [memoryview(b"")]
        self._most = len(memory) // BUFFER_SIZE

    def more(self) -> bool:
        """Have one more in ``free``; False if there is none."""
        number = len(self.views)
        if number > self._most:
            return False
        self.views.append(memoryview(self.memory)[(number - 1) * BUFFER_SIZE : number * BUFFER_SIZE])
        self.free.append(number)
        return True

    def give_back(self, number: int, used: int) -> None:
        """A buffer is free again; ``used`` of its bytes may have been touched."""
        if used <= PAGE:
            self.views[number][:used] = _ZEROS[:used]
        else:
            self.clear(number, used)
        self.free.append(number)

    def clear(self, number: int, used: int) -> None:
        """Make zeros of the first ``used`` bytes of a buffer, the only ones that may not be."""
        start = (number - 1) * BUFFER_SIZE
        if used > PAGE:
            self.memory.madvise(mmap.MADV_REMOVE, start + PAGE, BUFFER_SIZE - PAGE)
            used = PAGE
        self.memory[start : start + used] = _ZEROS[:used]
