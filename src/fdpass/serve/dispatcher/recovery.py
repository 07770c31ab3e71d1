"""What happens to a connection whose worker is dead: one table, pure.

The kernel's counters say how much was read and written; the slot says what those bytes belong to (see `slots`). A
doubt becomes a 502 or a reset, never a guess.

===  =====================================================================  ===================
row  what is found                                                          then
===  =====================================================================  ===================
1    the peer has closed or reset the connection                            FINISH
     the slot holds impossible values (`is_sane`)                           RESET
2    OPAQUE: only the dead worker could go on; and a part of an             RESET
     application's response has gone out
     OPAQUE otherwise                                                       CLOSE
3    the response went out whole, and the connection ends with it           FINISH
4    part of a response has gone out (`100 Continue` is no part of one),    RESET
     or it is not known whether one has (Unix sockets)
5    the worker has read nothing, and was handed bytes                      REPLAY of those
     the worker has read nothing, and was handed none                       IDLE
6    how much was read is not known (Unix sockets)                          RESET
     the kernel's count of bytes read differs from the worker's             ANSWER, or RESET
     (see `agrees`)                                                         if STREAM
7    the response went out whole, or none is due, and nothing more was read IDLE
8    all of the request's bytes so far are in the buffer; and the           REPLAY
     application was not called, or the method may be repeated and no
     earlier worker that had called the application has died
9    otherwise: nothing of a response was written                           ANSWER, or RESET
                                                                            if STREAM
===  =====================================================================  ===================

If the position that was written last begins an open stream (OPEN in `slots`), rows 1 to 4 hold, and then the rows
below. Bytes of the backlog (see `pages`) count as written: the next worker writes them. If there are any, FINISH
and RESTART become RESET, since the dispatcher writes nothing in the middle of a message.

===  =====================================================================  ===================
row  what is found of an open stream                                        then
===  =====================================================================  ===================
10   a message is in the application (GIVEN behind BASE), and it must not   RESTART
     be given again, or was given again already
11   the last three workers that continued the stream have died with it,    RESTART
     one after the other, and none made progress
12   the worker has read nothing                                            as in row 5
13   how much was read is not certain, as in row 6                          RESTART
14   nothing was read that the application is not done with                 IDLE
     all of it is in the buffer                                             REPLAY
     otherwise                                                              RESTART
===  =====================================================================  ===================

A response that went out whole ends its request, even if the application was still running (a background task): it
is not called again.
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
    GIVEN,
    OPEN,
    ORIGIN,
    POSITION,
    READ,
    REDELIVER,
    SECOND,
    WRITTEN,
    Flag,
)

MOST_ATTEMPTS = 3
"""How many times a request, or an open stream without progress, can be handed on because its worker died."""

REPEATABLE = {"none": 0, "safe": int(Flag.SAFE), "idempotent": int(Flag.SAFE | Flag.IDEMPOTENT)}
"""For each setting of ``--replay``: the flags of which a request needs one to be repeated."""

_CALLED, _OPAQUE, _CLOSING, _OVERFLOW = map(int, (Flag.CALLED, Flag.OPAQUE, Flag.CLOSING, Flag.OVERFLOW))
_STREAM, _INTERIM = int(Flag.STREAM), int(Flag.INTERIM)


class Facts(NamedTuple):
    """What is known of a connection beside its slot.

    Attributes:
        open: Both sides can still send, or the peer has only ended its own direction.
        read: Bytes ever read from the connection; None if that is not known for certain.
        wrote: Bytes ever written to it, whether or not they have arrived; None likewise.
        handed: How many bytes from BASE on the dispatcher handed to the dead worker, and still has.
        agreed: The kernel's count of bytes read agrees with the worker's: see `agrees`.
        unsent: How many of the bytes up to FINAL_END were not written, but are in the page of an open stream, so
            that the next worker can write them.
    """

    open: bool
    read: int | None
    wrote: int | None
    handed: int = 0
    agreed: bool = True
    unsent: int = 0


class Action(Enum):
    """What to do with the connection.

    Attributes:
        FINISH: Close it; it has ended normally.
        CLOSE: Close it; only the dead worker had the state to continue it.
        IDLE: Hand it to another worker.
        REPLAY: Hand it to another worker, with the bytes of its request.
        ANSWER: Answer 502, and close it.
        RESET: Reset it, so that its client cannot take a cut answer for a whole one.
        RESTART: Tell the client of an open WebSocket to connect again (1012), and close it; reset an event stream.
    """

    FINISH = "finished"
    CLOSE = "closed"
    IDLE = "moved"
    REPLAY = "replayed"
    ANSWER = "answered 502"
    RESET = "cut"
    RESTART = "told to connect again"

    __hash__ = object.__hash__  # Enum's own costs more than all else that is done with an idle connection


class Decision(NamedTuple):
    """What to do, and for IDLE and REPLAY how the next worker continues.

    Attributes:
        action: What to do.
        base: The next worker's BASE.
        written: The next worker's WRITTEN.
        start: Where in the dead worker's buffer the bytes of a REPLAY begin.
        stop: Where in the buffer they end; 0 if they are the bytes that the dead worker was handed.
        attempt: The next worker's ATTEMPT.
        reason: Of an ANSWER or RESTART: why the request is not repeated, or why the stream does not go on, as the
            end of a sentence about it.
        unsent: How many bytes the next worker has to write first: see `Facts`.
    """

    action: Action
    base: int = 0
    written: int = 0
    start: int = 0
    stop: int = 0
    attempt: int = 0
    reason: str = ""
    unsent: int = 0


def is_idle(slot: Sequence[int]) -> bool:
    """Whether the slot alone says that nothing is in progress, so that the kernel need not be asked.

    A worker stores BUFFER or OVERFLOW before it reads, and clears it when its response has gone out. A raw handler
    (STREAM) can write at any time, and bytes of a request that was handed on (ATTEMPT) have been read: such a slot
    is never idle here. If the client has gone, the next worker will see it.
    """
    return not (slot[FLAGS] or slot[BUFFER] or slot[FINAL_END] or slot[ATTEMPT] or is_given(slot))


def is_given(slot: Sequence[int]) -> bool:
    """Whether the application has a message of an open stream that it is not done with."""
    return slot[GIVEN] & POSITION > slot[BASE]


def agrees(slot: Sequence[int], read: int, memory: bytes | mmap.mmap | None) -> bool:
    """Whether the kernel's count of bytes read is what the worker has read, by READ or by its buffer.

    The worker may have died between its last read and its store to READ. Its buffer is zero behind what it has
    read: so if the kernel counts more than READ, the last byte that it counts must not be zero, and the byte
    behind that must be zero. If the client itself sent a zero in the first of these places, that is a doubt.

    Args:
        slot: The words of the slot.
        read: The kernel's count.
        memory: All receive buffers of the worker.
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
    """Whether the words that `decide` calculates with are within their bounds: a worker can store anything."""
    positions = (
        slot[BASE], slot[FINAL_BASE], slot[ORIGIN], slot[READ], slot[WRITTEN], slot[FINAL_END], slot[GIVEN]
    )  # fmt: skip
    return min(positions) >= 0 and max(positions[:4]) <= POSITION and 0 <= slot[ATTEMPT] < CALLED_BEFORE**2 // 2


def decide(slot: Sequence[int], facts: Facts, replay: str) -> Decision:
    """Find the row of the table that fits.

    Args:
        slot: The words of the slot.
        facts: What is known of the connection.
        replay: As of ``--replay``.
    """
    flags = slot[FLAGS]
    if not facts.open:
        return Decision(Action.FINISH)
    if not is_sane(slot):
        return Decision(Action.RESET)
    read, wrote = facts.read, facts.wrote
    base, written, called = slot[BASE], slot[WRITTEN], flags & _CALLED
    if wrote is not None:
        wrote += facts.unsent
    is_whole = slot[FINAL_END] and wrote is not None and wrote >= slot[FINAL_END] & POSITION
    if flags & _OPAQUE:
        return Decision(Action.RESET if called and not is_whole and wrote != written else Action.CLOSE)
    if is_whole:
        if flags & _CLOSING:
            return Decision(Action.RESET if facts.unsent else Action.FINISH)
        base, written, called = slot[FINAL_BASE], slot[FINAL_END] & ~FINAL, 0
    elif flags & _INTERIM and wrote == (written & POSITION) + len(CONTINUE):
        written += len(CONTINUE)
    if wrote != written & POSITION:
        return Decision(Action.RESET)
    if written & OPEN:
        return _decide_open(slot, facts, base, written)._replace(unsent=facts.unsent)
    has_begun = is_whole or slot[BUFFER] or flags & (_CALLED | _OVERFLOW)
    if not has_begun and read in {None, base + facts.handed}:
        return Decision(Action.REPLAY if facts.handed else Action.IDLE, base, written, attempt=slot[ATTEMPT])
    if read is None or read < base:
        return Decision(Action.RESET)
    refusal = Decision(Action.RESET if flags & _STREAM else Action.ANSWER)
    if not facts.agreed:
        return refusal._replace(reason="of which it is not certain what was read")
    if read == base:
        return Decision(Action.IDLE, base, written)
    start, stop = base - slot[ORIGIN], read - slot[ORIGIN]
    is_buffered = slot[BUFFER] and 0 <= start <= stop <= BUFFER_SIZE
    attempt = 0 if is_whole else slot[ATTEMPT]
    may_repeat = (
        attempt < CALLED_BEFORE and flags & REPEATABLE[replay]
        if called
        else attempt % CALLED_BEFORE < MOST_ATTEMPTS
    )
    if is_buffered and may_repeat:
        return Decision(Action.REPLAY, base, written, start, stop, attempt + 1 + (CALLED_BEFORE if called else 0))
    if not is_buffered:
        reason = "which is not in a buffer: it was too long, or no buffer was free"
    elif not called:
        reason = f"which {MOST_ATTEMPTS + 1} workers have died with"
    else:
        reason = "which must not be repeated" if attempt < CALLED_BEFORE else "which had been repeated already"
    return refusal._replace(reason=reason)


def _decide_open(slot: Sequence[int], facts: Facts, base: int, written: int) -> Decision:
    """Rows 10 to 14, for an open stream: nothing was written behind ``written``."""
    read = facts.read
    has_progressed = base != slot[BASE] or (written ^ slot[WRITTEN]) & (OPEN | SECOND)
    attempt = 0 if has_progressed else slot[ATTEMPT]
    has_message = slot[GIVEN] & POSITION > base
    has_begun = has_message or slot[BUFFER] or slot[FLAGS] & _OVERFLOW
    handed = facts.handed if base == slot[BASE] else 0
    if has_message and not slot[GIVEN] & REDELIVER:
        reason = "with a message in the application"
    elif has_message and attempt >= CALLED_BEFORE:
        reason = "with a message in the application, which had been given again already"
    elif attempt % CALLED_BEFORE >= MOST_ATTEMPTS:
        reason = f"with which its last {MOST_ATTEMPTS} workers have died"
    elif not has_begun and read in {None, base + handed}:
        return Decision(Action.REPLAY if handed else Action.IDLE, base, written, attempt=attempt)
    elif read is None or not facts.agreed:
        reason = "of which it is not certain what was read"
    elif read == base and not has_message:
        return Decision(Action.IDLE, base, written, attempt=attempt)
    elif slot[BUFFER] and 0 <= base - slot[ORIGIN] < read - slot[ORIGIN] <= BUFFER_SIZE:
        start, stop = base - slot[ORIGIN], read - slot[ORIGIN]
        more = CALLED_BEFORE if has_message else 0
        return Decision(Action.REPLAY, base, written, start, stop, attempt + more)
    else:
        reason = "of which a message is not in a buffer: it was too long, or no buffer was free"
    return Decision(Action.RESET if facts.unsent else Action.RESTART, reason=reason)
