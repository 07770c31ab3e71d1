"""What becomes of a connection whose worker is dead: one table, pure.

The kernel's counters tell what was read and written, and not the dead worker; the slot tells what it meant (see
`slots`). A doubt becomes a 502 or a reset, never a guess.

===  =====================================================================  ===================
row  what is found                                                          then
===  =====================================================================  ===================
1    the peer has closed or reset the connection                            FINISH
     the slot is nonsense (`is_sane`)                                       RESET
2    OPAQUE: only its worker could go on; and an application's response     RESET
     has gone out in part
     OPAQUE otherwise                                                       CLOSE
3    the response went out whole, and the connection ends with it           FINISH
4    part of a response has gone out (`100 Continue` is no part of one),    RESET
     or that is not known (Unix sockets)
5    the worker has read nothing, and it was handed bytes                   REPLAY, those
     the worker has read nothing, and it was handed none                    IDLE
6    how much was read is not known (Unix sockets)                          RESET
     the kernel's count of what was read is not what the worker has read    ANSWER, or RESET
     (see `agrees`)                                                         if STREAM
7    the response went out whole, or none is due, and nothing more was read IDLE
8    all of the request's bytes so far are in the buffer; and the           REPLAY
     application was not called, or its method may be repeated and no
     worker has died yet that had called it
9    else: nothing of a response was written                                ANSWER, or RESET
                                                                            if STREAM
===  =====================================================================  ===================

A response that went out whole is the end of its request, though its application may have gone on (a background
task): it is not called again.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    BUFFER_SIZE,
    CALLED_BEFORE,
    CONTINUE,
    FINAL,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    ORIGIN,
    POSITION,
    READ,
    WRITTEN,
    Flag,
)

MOST_ATTEMPTS = 3
"""So many times a request is handed on at most."""

REPEATABLE = {"none": 0, "safe": int(Flag.SAFE), "idempotent": int(Flag.SAFE | Flag.IDEMPOTENT)}
"""For each setting of ``--replay`` the flags of which one is needed."""

_CALLED, _OPAQUE, _CLOSING, _OVERFLOW = map(int, (Flag.CALLED, Flag.OPAQUE, Flag.CLOSING, Flag.OVERFLOW))
_STREAM, _INTERIM = int(Flag.STREAM), int(Flag.INTERIM)


class Facts(NamedTuple):
    """What the kernel says.

    Attributes:
        open: Both sides can still send, or the peer has only ended its own direction.
        read: Bytes that were ever read from it; None if that is not known for certain.
        wrote: Bytes that were ever written to it, whether or not they have arrived; None likewise.
        ours: Bytes from BASE on that the dispatcher has itself: those that it handed to this worker.
        agreed: What the kernel says was read is what the worker has read: see `agrees`.
    """

    open: bool
    read: int | None
    wrote: int | None
    ours: int = 0
    agreed: bool = True


class Action(Enum):
    """What to do.

    Attributes:
        FINISH: Close it; it has ended well.
        CLOSE: Close it; its worker had what is missing now.
        IDLE: Hand it to another worker.
        REPLAY: The same, with the bytes of its request.
        ANSWER: Answer 502, and close it.
        RESET: Reset it, so that a cut answer cannot pass for a whole one.
    """

    FINISH = "finished"
    CLOSE = "closed"
    IDLE = "moved"
    REPLAY = "replayed"
    ANSWER = "answered 502"
    RESET = "cut"

    __hash__ = object.__hash__  # Enum's own costs more than all that is done with an idle connection


class Decision(NamedTuple):
    """What to do; for IDLE and REPLAY the new BASE, WRITTEN, ATTEMPT, and where in the buffer the bytes are.

    For a REPLAY of the bytes that the worker was handed ``stop`` is 0.
    """

    action: Action
    base: int = 0
    written: int = 0
    start: int = 0
    stop: int = 0
    attempt: int = 0


def is_idle(slot: Sequence[int]) -> bool:
    """Whether the slot alone says that nothing is in progress: the kernel need not be asked.

    A worker names a buffer, or says OVERFLOW, before it reads, and takes that back when its response has gone out.
    Raw handlers (STREAM) may write at any time; of a request that was handed on (ATTEMPT) bytes were read before.
    Whether the client is still there, the next worker will see.
    """
    return not (slot[FLAGS] or slot[BUFFER] or slot[FINAL_END] or slot[ATTEMPT])


def agrees(slot: Sequence[int], read: int, memory: bytes | mmap.mmap | None) -> bool:
    """Whether the kernel's count of what was read is what the worker has read, by its own word or by its buffer.

    The worker may have died between its last read and its word of it (READ). Its buffer is zero behind what it has
    read: so the last byte of those that the kernel counts more must not be zero, and the byte behind it must be. A
    zero of the client's own in the first of these places is a doubt.

    Args:
        slot: The words of the slot.
        read: The kernel's count.
        memory: All buffers of the worker.
    """
    if not slot[BUFFER] or memory is None:
        return read == slot[READ]
    if not 0 < slot[BUFFER] <= len(memory) // BUFFER_SIZE:
        return False
    stop = read - slot[ORIGIN]
    if read < slot[READ] or not 0 <= stop <= BUFFER_SIZE:
        return False
    start = (slot[BUFFER] - 1) * BUFFER_SIZE
    if read > slot[READ] and not memory[start + stop - 1]:
        return False
    return stop == BUFFER_SIZE or not memory[start + stop]


def is_sane(slot: Sequence[int]) -> bool:
    """Whether the words that are reckoned with are in their bounds: a worker can store anything."""
    positions = (slot[BASE], slot[FINAL_BASE], slot[ORIGIN], slot[READ], slot[WRITTEN], slot[FINAL_END])
    return min(positions) >= 0 and max(positions[:4]) <= POSITION and 0 <= slot[ATTEMPT] < CALLED_BEFORE**2 // 2


def decide(slot: Sequence[int], facts: Facts, replay: str) -> Decision:
    """Look it up in the table.

    Args:
        slot: The words of the slot.
        facts: Of its connection.
        replay: As of ``--replay``.
    """
    flags = slot[FLAGS]
    if not facts.open:
        return Decision(Action.FINISH)
    if not is_sane(slot):
        return Decision(Action.RESET)
    read, wrote = facts.read, facts.wrote
    base, written, called = slot[BASE], slot[WRITTEN], flags & _CALLED
    whole = slot[FINAL_END] and wrote is not None and wrote >= slot[FINAL_END] & POSITION
    if flags & _OPAQUE:
        return Decision(Action.RESET if called and not whole and wrote != written else Action.CLOSE)
    if whole:
        if flags & _CLOSING:
            return Decision(Action.FINISH)
        base, written, called = slot[FINAL_BASE], slot[FINAL_END] & ~FINAL, 0
    elif flags & _INTERIM and wrote == (written & POSITION) + len(CONTINUE):
        written += len(CONTINUE)
    if wrote != written & POSITION:
        return Decision(Action.RESET)
    begun = whole or slot[BUFFER] or flags & (_CALLED | _OVERFLOW)
    if not begun and read in {None, base + facts.ours}:
        return Decision(Action.REPLAY if facts.ours else Action.IDLE, base, written, attempt=slot[ATTEMPT])
    if read is None or read < base:
        return Decision(Action.RESET)
    refusal = Decision(Action.RESET if flags & _STREAM else Action.ANSWER)
    if not facts.agreed:
        return refusal
    if read == base:
        return Decision(Action.IDLE, base, written)
    start, stop = base - slot[ORIGIN], read - slot[ORIGIN]
    buffered = slot[BUFFER] and 0 <= start <= stop <= BUFFER_SIZE
    attempt = 0 if whole else slot[ATTEMPT]
    again = (
        attempt < CALLED_BEFORE and flags & REPEATABLE[replay]
        if called
        else attempt % CALLED_BEFORE < MOST_ATTEMPTS
    )
    if buffered and again:
        return Decision(Action.REPLAY, base, written, start, stop, attempt + 1 + (CALLED_BEFORE if called else 0))
    return refusal
