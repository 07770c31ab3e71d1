"""What the next worker of a connection gets from custody: a prepared slot, and bytes that were read already.

The estate has a *journal* of it, so that the next dispatcher can prepare a slot that this one had only begun with,
and has the bytes until the next worker needs them no more: see step 5 in `keeper.estate`.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from fdpass.serve.dispatcher.recovery import Action, Decision
from fdpass.serve.keeper.estate import Estate, Head, Journal
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
    WORDS,
    WRITTEN,
    WROTE,
    Flag,
)

REPLAY_SIZE = 64 * 1024
"""Bytes of the replays for each slot: a receive buffer's, rounded up to what any machine has as a page."""


class HandedOn:
    """The bytes that were handed on with connections, and the journal.

    Args:
        estate: Has the journal. Lent.
        replays: Has the bytes, `REPLAY_SIZE` for each slot. Lent.
    """

    def __init__(self, estate: Estate, replays: mmap.mmap) -> None:
        self._estate = estate
        self._journal = estate.journal
        self._replays = replays
        used = estate.journal[: estate.head[Head.HIGH]].tolist()
        # They may have bytes in the replays.
        self._slots = {slot for slot, entry in enumerate(used) if entry} if any(used) else set()

    def handed(self, slot: int, words: memoryview) -> bytes:
        """The bytes that were handed on with a connection; b"" if its worker has moved BASE beyond them."""
        entry = self._journal[slot]
        if not entry or self._estate.base[slot] != words[BASE]:
            return b""
        return self._read(slot, entry >> 8)

    def is_begun(self, slot: int) -> bool:
        """Whether a dispatcher has decided how the slot is to be prepared, and may not have prepared it."""
        return self._journal[slot] & 0xFF == Journal.DECIDED

    def prepare(self, slot: int, words: memoryview, decision: Decision, read: bytes) -> None:
        """Prepare a slot, and keep the bytes that are handed on with the connection: see `prepare_slot`."""
        estate, journal, start = self._estate, self._journal, slot * REPLAY_SIZE
        if estate.base[slot] != decision.base:
            journal[slot] = Journal.EMPTY  # the bytes that it has are those of an earlier request
        self._replays[start : start + len(read)] = read
        estate.base[slot], estate.written[slot] = decision.base, decision.written
        estate.attempt[slot], estate.unsent[slot] = decision.attempt, decision.unsent
        journal[slot] = len(read) << 8 | Journal.DECIDED
        self._finish(slot, words, decision, read)

    def prepare_again(self, slot: int, words: memoryview) -> bytes:
        """Prepare a slot for which `is_begun` is true. Returns the bytes that are handed on."""
        estate = self._estate
        read = self._read(slot, self._journal[slot] >> 8)
        facts = estate.base[slot], estate.written[slot], estate.attempt[slot], estate.unsent[slot]
        base, written, attempt, unsent = facts
        decision = Decision(Action.REPLAY, base, written, attempt=attempt, unsent=unsent)
        self._finish(slot, words, decision, read)
        return read

    def _finish(self, slot: int, words: memoryview, decision: Decision, read: bytes) -> None:
        prepare_slot(words, decision, read)
        if read:
            self._journal[slot] = len(read) << 8 | Journal.PREPARED
            self._slots.add(slot)
        else:
            self._journal[slot] = Journal.EMPTY
            self._slots.discard(slot)

    def _read(self, slot: int, length: int) -> bytes:
        start = slot * REPLAY_SIZE
        return self._replays[start : start + length]

    def forget(self, slots: Iterable[int]) -> None:
        """Nothing that was handed on with these connections is needed any more."""
        journal = self._journal
        for slot in slots:
            if entry := journal[slot]:
                journal[slot] = Journal.EMPTY
                self._slots.discard(slot)
                if entry >> 8:
                    self._replays.madvise(mmap.MADV_REMOVE, slot * REPLAY_SIZE, REPLAY_SIZE)

    def forget_used(self, words: memoryview) -> None:
        """Forget the bytes beyond which workers have moved BASE.

        Args:
            words: All slots.
        """
        base = self._estate.base
        self.forget([slot for slot in self._slots if words[slot * WORDS + BASE] != base[slot]])

    def __len__(self) -> int:
        """For how many connections bytes are kept."""
        return len(self._slots)


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
