"""The layout of a connection's *slot*, its record in shared memory, and the order of a worker's stores. Pure.

A slot has 32 aligned words of 64 bits (256 bytes), most of which are positions: bytes since the connection began,
as the kernel counts them too. One worker at a time owns a slot and writes it. After that worker's death the
dispatcher reads the slot (see `recovery`), and prepares it for the next worker. docs/how-it-works.md repeats this
page.

**The order of stores.** A worker can die between any two of these steps, and the slot is true after each of them.
*K* marks what the kernel does.

1. A request begins: ORIGIN, BUFFER. K: bytes are read into the buffer. READ. If no buffer is free: OVERFLOW. K:
   bytes are read into memory of the worker's own. READ.
2. The buffer is full: ORIGIN, then the buffer is cleared. K: more bytes are read, from the buffer's start. READ.
   ORIGIN above BASE now says that the bytes before it are gone.
3. The application is called: CALLED and what the method permits, in one store; then the call. If `100 Continue` is
   to be sent: INTERIM. K: it is written.
4. The response ends: CLOSING, if the connection ends with it. FINAL_BASE. FINAL_END. K: the last part is written.
5. The response has left the process: FINAL_BASE again, because the response may have ended before its request did
   (until the request has ended the connection is OPAQUE). FLAGS to 0, or to OVERFLOW if bytes of the next request
   are there that found no buffer. ATTEMPT to 0. BASE. WRITTEN. FINAL_END to 0. BUFFER to 0, unless it holds bytes
   of the next request. On an OPAQUE connection instead: WRITTEN. FINAL_END to 0. FLAGS to OPAQUE. ATTEMPT to 0.

From step 4 on, once the kernel has all that FINAL_END promises, FINAL_BASE and FINAL_END stand for BASE and
WRITTEN, whichever stores of step 5 were made; before that BASE and WRITTEN hold.

A Unix socket has marks around each K: READING. K: bytes are read. READ. READING off. And: WRITING. K: bytes are
written, until the transport holds none back. WROTE. WRITING off.

Raw handlers (`async def handle(conn)`) have no requests: they commit states. The new state is written to that one
of the two STATES which is not in force. Then FINAL_BASE and FINAL_END as in step 4, where FINAL_END also says
which state belongs to it (`SECOND`). Then BASE, WRITTEN (with the same mark), and FINAL_END to 0. So bytes read,
bytes written and state change together. While one buffer is exchanged for another, OVERFLOW is set and
BUFFER is 0.

A buffer is zero behind what its present owner has read: it is cleared when its owner gives it back, and when it is
full. So its owner has read every byte that is not zero, whatever a counter says.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated

BASE: Annotated[int, "bytes read up to the start of the request in progress"] = 0
WRITTEN: Annotated[int, "bytes written up to there"] = 1
FINAL_BASE: Annotated[int, "where that request ends, once its response has ended"] = 2
FINAL_END: Annotated[int, "bytes that will have been written once the whole response is out; 0 until then"] = 3
FLAGS: Annotated[int, "see the next table"] = 4
ATTEMPT: Annotated[
    int,
    "how often the request was handed to another worker; plus 2^32 if one of the dead workers had called the "
    "application",
] = 5
BUFFER: Annotated[int, "which of its worker's buffers the request is read into, from 1; 0 = none"] = 6
ORIGIN: Annotated[int, "bytes read up to the start of that buffer"] = 7
READ: Annotated[int, "bytes read, as the worker says: the kernel's count may be ahead of it by one read"] = 8
WROTE: Annotated[
    int, "bytes written, as the worker says; Unix sockets only, whose bytes the kernel does not count"
] = 9
CLIENT: Annotated[int, "three words: the client's address, if a PROXY header told it"] = 10
STATES: Annotated[int, "raw handlers: two states, each of nine words: a length, and up to 64 bytes"] = 13

CALLED_BEFORE = 1 << 32
"""Added to ATTEMPT when a worker dies that had called the application."""

WORDS = 32
"""Number of words in a slot."""

STATE_WORDS = 9
"""Number of words in a state: one for its length, the others for its bytes."""

STATE_MAX = 8 * (STATE_WORDS - 1)
"""Greatest number of bytes in a state."""

SECOND = 1 << 62
"""Bit of WRITTEN and FINAL_END: the second of the two states belongs to it."""

FINAL = 1 << 61
"""Bit of FINAL_END: it is set, even if its position is 0."""

POSITION = FINAL - 1
"""Mask of the position in WRITTEN and FINAL_END."""

SLOT_SIZE = 8 * WORDS
"""Size of a slot in bytes."""

BUFFER_SIZE = 60 * 1024
"""Size of a receive buffer in bytes: longer requests are not handed over. It fits into one message."""

MOST_BUFFERS = 8192
"""Greatest number of buffers of all workers together: further requests are served, but not handed over."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What INTERIM announces, as each of uvicorn's protocol classes writes it."""


def slot_of(slots: memoryview, number: int) -> memoryview:
    """Return the words of one slot, out of those of all slots."""
    return slots[number * WORDS : (number + 1) * WORDS]


class Flag(IntFlag):
    """What FLAGS says about the request in progress, or about its connection.

    Attributes:
        CALLED: The application has been called for the request.
        SAFE: The method is safe (RFC 9110, 9.2.1): a second call changes nothing.
        IDEMPOTENT: The method is idempotent (9.2.2): a second call changes nothing more.
        OVERFLOW: Bytes were read that are in no buffer.
        CLOSING: The connection ends with this response.
        OPAQUE: Only this worker can continue the connection: another protocol, TLS, a request whose end is not
            certain, or a request that was answered before it had arrived.
        READING: Unix sockets: a read may have happened that READ does not count yet.
        WRITING: Unix sockets: a write may have happened that WROTE does not count yet.
        STREAM: The connection speaks no HTTP.
        INTERIM: `100 Continue` may have been written behind WRITTEN; it is not a part of a response.
    """

    CALLED = 1
    SAFE = 2
    IDEMPOTENT = 4
    OVERFLOW = 8
    CLOSING = 16
    OPAQUE = 32
    READING = 64
    WRITING = 128
    STREAM = 256
    INTERIM = 512


_SAFE = int(Flag.CALLED | Flag.SAFE | Flag.IDEMPOTENT)
CALLED_BY_METHOD = {
    **dict.fromkeys(("GET", "HEAD", "OPTIONS", "TRACE"), _SAFE),
    **dict.fromkeys(("PUT", "DELETE"), int(Flag.CALLED | Flag.IDEMPOTENT)),
}
"""The flags to set when the application is called, by method; CALLED alone for other methods."""
