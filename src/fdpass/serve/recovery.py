"""What becomes of a connection whose worker is dead: one table, pure.

The kernel's counters tell what was read and written, and not the dead worker; the slot tells what it meant (see
`slots`). A doubt becomes a 502 or a reset, never a guess.

===  =====================================================================  ===================
row  what is found                                                          then
===  =====================================================================  ===================
1    the peer has closed or reset the connection                            FINISH
2    OPAQUE: only its worker could go on; and an application's response     RESET
     has gone out in part
     OPAQUE otherwise                                                       CLOSE
3    the response went out whole, and the connection ends with it           FINISH
4    the response went out whole, or none is due, and nothing more was read IDLE
5    nothing of a response was written; all of the request's bytes so far   REPLAY
     are in the buffer, or are those that the worker was handed and had
     not begun with; and the application was not called, or its method
     may be repeated and no worker has died yet that had called it
6    nothing of a response was written, and it is HTTP                      ANSWER
7    else: part of a response has gone out                                  RESET
===  =====================================================================  ===================
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from fdpass.serve.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    BUFFER_SIZE,
    CALLED_BEFORE,
    FINAL,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    ORIGIN,
    POSITION,
    WRITTEN,
    Flag,
)

MOST_ATTEMPTS = 3
"""So many times a request is handed on at most."""

REPEATABLE = {"none": 0, "safe": int(Flag.SAFE), "idempotent": int(Flag.SAFE | Flag.IDEMPOTENT)}
"""For each setting of ``--replay`` the flags of which one is needed."""

_CALLED, _OPAQUE, _CLOSING, _OVERFLOW = map(int, (Flag.CALLED, Flag.OPAQUE, Flag.CLOSING, Flag.OVERFLOW))
_STREAM = int(Flag.STREAM)


class Facts(NamedTuple):
    """What the kernel says.

    Attributes:
        open: Both sides can still send, or the peer has only ended its own direction.
        read: Bytes that were ever read from it; None if that is not known for certain.
        wrote: Bytes that were ever written to it, whether or not they have arrived; None likewise.
        ours: Bytes from BASE on that the dispatcher has itself: those that it handed to this worker.
    """

    open: bool
    read: int | None
    wrote: int | None
    ours: int = 0


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

    For a REPLAY of bytes that the dispatcher has itself ``stop`` is 0.
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
    read, wrote = facts.read, facts.wrote
    base, written, called = slot[BASE], slot[WRITTEN], flags & _CALLED
    whole = slot[FINAL_END] and wrote is not None and wrote >= slot[FINAL_END] & POSITION
    if flags & _OPAQUE:
        return Decision(Action.RESET if called and not whole and wrote != written else Action.CLOSE)
    if read is None or wrote is None:
        return Decision(Action.RESET)
    if whole:
        if flags & _CLOSING:
            return Decision(Action.FINISH)
        base, written, called = slot[FINAL_BASE], slot[FINAL_END] & ~FINAL, 0
    if wrote != written & POSITION or read < base:
        return Decision(Action.RESET)
    if read == base:
        return Decision(Action.IDLE, base, written)
    begun = whole or slot[BUFFER] or flags & (_CALLED | _OVERFLOW) or not slot[ATTEMPT]
    if not begun and facts.ours == read - base:
        return Decision(Action.REPLAY, base, written, attempt=slot[ATTEMPT])
    start, stop = base - slot[ORIGIN], read - slot[ORIGIN]
    buffered = slot[BUFFER] > 0 and not flags & _OVERFLOW and start >= 0 and stop <= BUFFER_SIZE
    attempt = 0 if whole else slot[ATTEMPT]
    again = (
        attempt < CALLED_BEFORE and flags & REPEATABLE[replay]
        if called
        else attempt % CALLED_BEFORE < MOST_ATTEMPTS
    )
    if buffered and again:
        return Decision(Action.REPLAY, base, written, start, stop, attempt + 1 + (CALLED_BEFORE if called else 0))
    return Decision(Action.RESET if flags & _STREAM else Action.ANSWER)
