"""What the next worker of a connection gets from custody: a prepared slot, and bytes that were read already."""

from __future__ import annotations

import mmap

from fdpass.serve.dispatcher.recovery import Action, Decision
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    BUFFER_SIZE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    GIVEN,
    ORIGIN,
    POSITION,
    READ,
    WRITTEN,
    WROTE,
    Flag,
)


def bytes_to_hand(words: memoryview, decision: Decision, buffers: mmap.mmap | None, handed: bytes) -> bytes:
    """The bytes that the next worker has to be handed with a connection.

    Args:
        words: The slot, as the dead worker left it.
        decision: IDLE or REPLAY.
        buffers: The dead worker's receive buffers.
        handed: The bytes that the dead worker was handed.
    """
    if decision.action is Action.IDLE:
        return b""
    if not decision.stop:
        return handed
    assert buffers is not None, "a request is in a buffer"
    start = (words[BUFFER] - 1) * BUFFER_SIZE
    return buffers[start + decision.start : start + decision.stop]


def prepare_slot(words: memoryview, decision: Decision, read: bytes) -> None:
    """Prepare a slot for the next worker, which is handed the bytes of ``read``."""
    words[BUFFER] = 0
    words[ATTEMPT] = decision.attempt
    words[FLAGS] &= Flag.STREAM
    words[BASE] = words[ORIGIN] = decision.base
    words[READ] = decision.base + len(read)
    words[WRITTEN] = decision.written
    words[GIVEN] = 0
    if decision.unsent:
        words[WROTE] = (decision.written & POSITION) - decision.unsent
        words[FINAL_BASE] = decision.base
        words[FINAL_END] = decision.written
    else:
        words[FINAL_END] = 0
