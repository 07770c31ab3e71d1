"""A worker's receive buffers, in memory that the dispatcher has too: what is read from a connection is never lost.

A buffer is taken while a request is in progress. The last one given back is the first to be taken, so that as many
pages are in use as there were requests at a time; what a large request touched beyond the first page is freed.
"""

from __future__ import annotations

import mmap

from fdpass.serve.slots import BUFFER_SIZE

_PAGE = mmap.PAGESIZE


class Buffers:
    """All buffers of a worker.

    Args:
        memory: Of a whole number of buffers. Lent.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._views: list[memoryview] = []
        self._free: list[int] = []
        self._most = len(memory) // BUFFER_SIZE

    def take(self) -> int:
        """The number of a free buffer, from 1; 0 if there is none."""
        if self._free:
            return self._free.pop()
        count = len(self._views)
        if count == self._most:
            return 0
        whole = memoryview(self._memory)
        self._views.append(whole[count * BUFFER_SIZE : (count + 1) * BUFFER_SIZE])
        return count + 1

    def view(self, number: int) -> memoryview:
        """A buffer's bytes."""
        return self._views[number - 1]

    def give_back(self, number: int, used: int) -> None:
        """A buffer is free again; ``used`` of its bytes may have been touched."""
        if used > _PAGE:
            start = (number - 1) * BUFFER_SIZE
            self._memory.madvise(mmap.MADV_REMOVE, start + _PAGE, BUFFER_SIZE - _PAGE)
        self._free.append(number)
