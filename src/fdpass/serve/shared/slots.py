"""The layout of a connection's *slot*, its record in shared memory, and the order of a worker's stores. Pure.

A slot has 32 aligned words of 64 bits (256 bytes), most of which are positions: bytes since the connection began,
as the kernel counts them too. One worker at a time owns a slot and writes it; the dispatcher reads it when that
worker is dead (see `recovery`), and prepares it for the next one.

=============  ==========================================================================================
BASE           read up to the start of the request in progress
WRITTEN        written up to there
FINAL_BASE     where that request ends, once its response does
FINAL_END      what will have been written once the whole response is out; 0 until then
FLAGS          see `Flag`
ATTEMPT        how often the request was handed to another worker; above CALLED_BEFORE if the application had been
               called by one that died
BUFFER         which of its worker's buffers the request is read into, from 1; 0 is none
ORIGIN         read up to the start of that buffer
READ           read so far, as the worker says: the kernel's counter may be ahead of it by one read
WROTE          Unix sockets only, for which the kernel keeps no counters: written so far, likewise
CLIENT         three words: who the client is, if a PROXY header told (see `slot_client`)
STATES         two states of nine words, raw handlers only: a length, and so many bytes
=============  ==========================================================================================

**The order of stores.** A worker can die between any two of these steps, and at each the slot has to be true.
*K* marks what the kernel does.

1. A request begins: ORIGIN, BUFFER; K: bytes are read, into the buffer; READ. If no buffer is free: OVERFLOW; K:
   bytes are read, into memory of the worker's own; READ.
2. The buffer is full: ORIGIN, and the buffer is cleared; K: more is read, from its start; READ. What was there
   before is gone; ORIGIN, which is above BASE now, says so.
3. The application is called: CALLED, and what its method permits; then it is. If `100 Continue` is to be sent:
   INTERIM; K: it is written.
4. The response ends: CLOSING, if the connection ends with it; FINAL_BASE; FINAL_END; K: the last part is written.
5. It has left the process: FINAL_BASE again, for the response may have come before the request's end (until that
   has come there is OPAQUE); FLAGS to 0, or to OVERFLOW if bytes of the next request are there that found no
   buffer; ATTEMPT to 0; BASE; WRITTEN; FINAL_END to 0; BUFFER to 0, unless bytes of the next request are in it.
   Of an OPAQUE connection: WRITTEN; FINAL_END to 0; FLAGS to OPAQUE; ATTEMPT to 0.

Of a Unix socket, around each K: READING; K: bytes are read; READ; READING off. WRITING; K: bytes are written,
until the transport holds none back; WROTE; WRITING off.

Raw handlers (``async def handle(conn)``) have no requests. What they commit is a state: it is written to that one
of the two STATES which is not in force; then come FINAL_BASE and FINAL_END as in 4, and FINAL_END says which state
goes with it (`SECOND`); then BASE, WRITTEN (with the same mark), and FINAL_END to 0. So bytes read, bytes written
and state change together. While a buffer is exchanged for another there is OVERFLOW, and no BUFFER.

**A buffer is zero behind what its present owner has read**: it is cleared when it is given back, and when it is
full. So a byte that is not zero was read by its owner, whatever a counter says.

From 4 on, once the kernel has all that FINAL_END promises, FINAL_BASE and FINAL_END stand for BASE and WRITTEN,
whichever of the steps of 5 were made; before that BASE and WRITTEN hold.
"""

from __future__ import annotations

from enum import IntFlag

BASE, WRITTEN, FINAL_BASE, FINAL_END, FLAGS, ATTEMPT, BUFFER, ORIGIN, READ, WROTE, CLIENT = range(11)
STATES = 13

CALLED_BEFORE = 1 << 32
"""In ATTEMPT: what comes to it when a worker dies that had called the application."""

WORDS = 32
"""Words of a slot."""

STATE_WORDS = 9
"""Words of a state: its length, and its bytes."""

STATE_MAX = 8 * (STATE_WORDS - 1)
"""The most bytes of a state."""

SECOND = 1 << 62
"""In WRITTEN and FINAL_END: the second of the two states goes with it."""

FINAL = 1 << 61
"""In FINAL_END: it stands, even if its position is 0."""

POSITION = FINAL - 1
"""What of WRITTEN and FINAL_END is a position."""

SLOT_SIZE = 8 * WORDS
"""Bytes of a slot."""

BUFFER_SIZE = 60 * 1024
"""Bytes of a receive buffer: a longer request is not handed over. One message of the channel carries it."""

MOST_BUFFERS = 8192
"""Of all workers together: requests beyond so many at a time are served, but not handed over."""


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What INTERIM tells of, as every parser's protocol writes it."""


def slot_of(slots: memoryview, number: int) -> memoryview:
    """The words of one slot, of all of them."""
    return slots[number * WORDS : (number + 1) * WORDS]


class Flag(IntFlag):
    """What a worker says of the request in progress, or of its connection.

    Attributes:
        CALLED: The application has been called for it.
        SAFE: Its method is safe (RFC 9110, 9.2.1): calling again changes nothing.
        IDEMPOTENT: Its method is idempotent (9.2.2): calling again changes nothing more.
        OVERFLOW: Bytes were read that are in no buffer.
        CLOSING: The connection ends with this response.
        OPAQUE: The connection has a state that only its worker knows: another protocol, TLS, or a request of which
            it is not known where it ends, or that was answered before it had come.
        STREAM: The connection speaks no HTTP.
        READING: Unix sockets: a read may have happened that READ does not tell of yet.
        WRITING: Unix sockets: likewise.
        INTERIM: `100 Continue` may have been written behind WRITTEN: it is no part of a response.
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
"""With which flags the application is called for a request; CALLED alone for methods that are not here."""
