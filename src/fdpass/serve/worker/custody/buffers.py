"""A worker's receive buffers, in memory that the dispatcher has too: what is read from a connection is never lost.

A buffer is taken while a request is in progress. The last one given back is the first to be taken, so that as many
pages are in use as there were requests at a time; what a large request touched beyond the first page is freed. A
free buffer is all zeros, so no connection can ever be handed what another one has sent (see `slots`).
"""

from __future__ import annotations

import mmap

from fdpass.serve.shared.slots import BUFFER_SIZE

PAGE = mmap.PAGESIZE


def new_scratch() -> memoryview:
    """Memory to read into when no buffer is free: the kernel allocates its pages when that happens first."""
    return memoryview(mmap.mmap(-1, BUFFER_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


class Buffers:
    """The receive buffers of a worker.

    Args:
        memory: Of a whole number of buffers. Lent.

    Attributes:
        memory: See above.
        free: The numbers, from 1, of the buffers that no connection has. Take the last one; `more` may add one.
        zeros: As many as the last request had bytes: often the next one has as many.
        views: The bytes of each buffer that was ever taken, by its number; index 0 is unused.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory
        self.free: list[int] = []
        self.views: list[memoryview] = [memoryview(b"")]
        self._most = len(memory) // BUFFER_SIZE
        self.zeros = b""

    def more(self) -> bool:
        """Add a new buffer to ``free``; False if the memory is used up."""
        number = len(self.views)
        if number > self._most:
            return False
        self.views.append(memoryview(self.memory)[(number - 1) * BUFFER_SIZE : number * BUFFER_SIZE])
        self.free.append(number)
        return True

    def give_back(self, number: int, used: int) -> None:
        """Free a buffer, of which the first ``used`` bytes may have been written."""
        self.clear(number, used)
        self.free.append(number)

    def clear(self, number: int, used: int) -> None:
        """Set the first ``used`` bytes of a buffer to zero; the others are zero already."""
        start = (number - 1) * BUFFER_SIZE
        if used > PAGE:
            self.memory.madvise(mmap.MADV_REMOVE, start + PAGE, BUFFER_SIZE - PAGE)
            used = PAGE
        if len(self.zeros) != used:
            self.zeros = bytes(used)
        self.memory[start : start + used] = self.zeros
