"""The layout of a connection's *slot*, its record in shared memory, and the order of a worker's stores. Pure.

A slot has 32 aligned words of 64 bits (256 bytes), most of which are positions: bytes since the connection began,
as the kernel counts them too. One worker at a time owns a slot and writes it. After that worker's death the
dispatcher reads the slot (see `recovery`), and prepares it for the next worker. docs/how-it-works.md repeats this
page.

**The order of stores.** A worker stores the words of a slot in this order. It can die between any two steps, and
after each step the slot is true. *K* marks what the kernel does.

1. A request begins. The worker stores ORIGIN and BUFFER. K: bytes are read into the buffer. It stores READ. If no
   buffer is free, it stores OVERFLOW instead; K: bytes are read into the worker's own memory. It stores READ.
2. The buffer is full. The worker stores ORIGIN, and clears the buffer. K: more is read, from the buffer's start.
   It stores READ. ORIGIN above BASE says that the earlier bytes are gone.
3. The worker stores CALLED and the flags of the method, in one store. Then it calls the application. If
   `100 Continue` is to be sent, it stores INTERIM first. K: `100 Continue` is written.
4. The response ends. The worker stores CLOSING, if the connection ends with the response; FINAL_BASE; FINAL_END.
   K: the last part is written.
   If a part of the request comes after that, it stores FINAL_BASE again (until the request has ended, the
   connection is OPAQUE).
5. The response has left the process, and the request has ended. The worker stores FLAGS as 0, or as OVERFLOW if
   bytes of the next request have come that found no buffer; ATTEMPT as 0; BASE; WRITTEN; FINAL_END as 0; BUFFER as
   0, unless bytes of the next request are in the buffer. For an OPAQUE connection it stores WRITTEN; FINAL_END as
   0; FLAGS as OPAQUE; ATTEMPT as 0.

From step 4 on, as soon as the kernel has all the bytes that FINAL_END promises, FINAL_BASE and FINAL_END count as
BASE and WRITTEN, whichever stores of step 5 were made; before that BASE and WRITTEN count. So a request is over at
one system call, and not at a store.

Only empty lines have come before a request: the worker stores BASE; ATTEMPT as 0; BUFFER as 0; FLAGS as 0.

A connection ends, and may linger after its last response: the worker stores OVERFLOW; BUFFER as 0. So nothing that
was read passes for a request. A connection becomes a WebSocket that no other worker can continue: it stores OPAQUE
before these.

On a Unix socket the worker also stores marks around each K: READING before it reads, READ and then READING off
after it; WRITING before it writes, WROTE and then WRITING off once the transport holds no byte back.

A raw handler (`async def handle(conn)`) has no requests; it commits states. The worker writes the new state to the
one of the two STATES that is not in use. Then it stores FINAL_BASE, and FINAL_END with a bit that says which state
belongs to it (`SECOND`). Then it writes the reply. Then it stores BASE, WRITTEN with the bit, and FINAL_END as 0.
So the position read, the position written and the state change together. While it exchanges one buffer for
another, OVERFLOW is set and BUFFER is 0.

**Open streams.** A WebSocket, or an event stream (`text/event-stream`), that another worker can continue is
*open*: WRITTEN has the bit OPEN, and the connection's *page* has the request that opened it (see `pages`).
Between two messages WRITTEN is where a frame or an event ends, and BASE is where the messages end that the
application is done with: it is done with a message when it asks for the next one, or commits.

A WebSocket opens. Until then it is a request with a safe method. The worker writes the page. It stores
FINAL_BASE as the end of the handshake; FINAL_END with OPEN. K: the 101 is written. It stores FLAGS as 0;
ATTEMPT as 0; BASE; WRITTEN with OPEN; FINAL_END as 0; BUFFER as 0.

It goes on so:

1. Bytes come. The worker stores ORIGIN and BUFFER, and so on, as for a request.
2. The worker stores GIVEN, as the end of the next message. Then it gives that message to the application. If
   the application has said that messages may come again, GIVEN has the bit REDELIVER.
3. The application asks for the next message. The worker stores ATTEMPT as 0; FINAL_BASE, if FINAL_END is set;
   BASE as the end of the message before; BUFFER as 0, if nothing more was read.
4. The application sends a message. The worker stores FINAL_BASE as BASE; FINAL_END with OPEN. K: the frame is
   written. It stores WRITTEN with OPEN, even if the kernel has taken only a part; FINAL_END as 0, once the kernel
   has all of it. If the application has announced a commit that belongs to this message, the worker has written
   the state first, as for a raw handler, and FINAL_BASE is GIVEN; ATTEMPT as 0 and BASE are stored after the
   frame, before WRITTEN.
5. A commit without a message: the same as 4, and nothing is written.
6. A close frame is sent: CLOSING is stored before FINAL_END, and FINAL_END stays.

An event stream opens with the head of its response: the worker writes the page, and stores as for a WebSocket.
Each event is then as a message that the application sends; the state is the id of the last event that went out
whole, and WRITTEN is stored once the kernel has all of the event. If only a part of an event goes out, or an event
of a stream that has no ids, FINAL_END is UNFINISHED with OPEN, and stays so until the event is whole. The end of
the response stores FINAL_END without OPEN, as for any request. In step 5 the worker gives the page back before it
stores WRITTEN without OPEN. The page of a connection that ends while it is open is given back by the dispatcher.

Another worker continues an open stream: it adds 1 to ATTEMPT, and then it calls the application. Half a second
later it stores ATTEMPT as 0, unless CALLED_BEFORE is in it. An event that goes out whole also stores ATTEMPT as 0.
A worker that gives an open stream back stores nothing any more from then on.

If the kernel takes only a part of a message, the worker may keep the rest as the backlog of the page (see
`pages`). The end of the backlog is stored last; while it is FINAL_END, the message counts as written. So a worker
with a backlog drops it before it stores FINAL_BASE or FINAL_END, and keeps it again after it has written. A worker
that gets an open stream with FINAL_END first writes what the backlog has from WROTE on: WRITTEN counts it already.

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
    "application. Of an open stream: how many workers have continued it since it made progress; plus 2^32 if a "
    "message is given again",
] = 5
BUFFER: Annotated[int, "which of its worker's buffers the request is read into, from 1; 0 = none"] = 6
ORIGIN: Annotated[int, "bytes read up to the start of that buffer"] = 7
READ: Annotated[int, "bytes read, as the worker says: the kernel's count may be ahead of it by one read"] = 8
WROTE: Annotated[
    int,
    "bytes written: as the worker says, of Unix sockets, whose bytes the kernel does not count; as the dispatcher "
    "says, of an open stream that it hands on with a backlog",
] = 9
CLIENT: Annotated[int, "three words: the client's address, if a PROXY header told it"] = 10
STATES: Annotated[
    int, "raw handlers and open streams: two states, each of nine words: a length, and up to 64 bytes"
] = 13
GIVEN: Annotated[
    int,
    "open WebSockets: bytes read up to the end of the last message that the application was given; with a bit, "
    "REDELIVER, if it may be given again",
] = 31

CALLED_BEFORE = 1 << 32
"""Added to ATTEMPT when a worker dies that had called the application, or had given it a message of a stream."""

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

OPEN = 1 << 60
"""Bit of WRITTEN and FINAL_END: from that position on, the connection is an open stream."""

POSITION = OPEN - 1
"""Mask of the position in WRITTEN, FINAL_END and GIVEN."""

UNFINISHED = POSITION
"""Position in FINAL_END, with OPEN: if anything was written behind WRITTEN, no other worker can go on."""

REDELIVER = 1 << 60
"""Bit of GIVEN: a message that the application was given may be given again, once."""

SLOT_SIZE = 8 * WORDS
"""Size of a slot in bytes."""

BUFFER_SIZE = 60 * 1024
"""Size of a receive buffer in bytes: longer requests are not handed over. It fits into one message."""

MOST_BUFFERS = 8192
"""Greatest number of buffers of all workers together: further requests are served, but not handed over."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""The interim response that INTERIM announces, as the worker writes it."""


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
