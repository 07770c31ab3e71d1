"""For the tests of `Link`: what stands for its engine."""

import mmap
import types

from fdpass.serve.shared.slots import BUFFER_SIZE
from fdpass.serve.worker.custody.buffers import Buffers


def link_engine(count=1):
    """In the place of `ConnectionEngine`: so many receive buffers."""
    memory = mmap.mmap(-1, count * BUFFER_SIZE)
    return types.SimpleNamespace(buffers=Buffers(memory), scratch=memoryview(bytearray(BUFFER_SIZE)))
