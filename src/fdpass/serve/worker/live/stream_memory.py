"""`StreamMemory`: the memory and the paths by which a worker continues the streams of other workers."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

from fdpass.serve.worker.custody.buffers import Buffers


@dataclass(frozen=True, slots=True)
class StreamMemory:
    """What `WebSockets` and `EventStreams` of a worker have in common.

    Attributes:
        slots: Of all connections.
        buffers: Of this worker.
        scratch: Memory to read into when no buffer is free.
        pages: Of all connections.
        prefixes: The paths that can be resumed.
    """

    slots: memoryview
    buffers: Buffers
    scratch: memoryview
    pages: mmap.mmap
    prefixes: tuple[str, ...]
