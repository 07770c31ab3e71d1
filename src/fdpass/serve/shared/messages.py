"""The messages between dispatcher and worker: what each one carries, and how it is written. Pure.

The first byte of a message is its kind. Slots and counts follow as 32-bit words in the byte order of this machine,
which both processes run on. Each kind is described where it is defined; docs/how-it-works.md has the same table.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from typing import Annotated, NamedTuple

from fdpass.errors import ProtocolError


class Kind(NamedTuple):
    """The description of one kind of message.

    Attributes:
        sender: The process that sends it, and when.
        content: What follows the first byte.
        descriptors: The descriptors that travel with it.
    """

    sender: str
    content: str = ""
    descriptors: str = ""


SETUP: Annotated[
    bytes,
    Kind(
        "dispatcher, first",
        "settings, row and address: JSON",
        "the ledger; the access log, if there is one; in custody the slots and this worker's buffers; if "
        "workers accept, the listeners",
    ),
] = b"S"
HANDOFF: Annotated[
    bytes,
    Kind("dispatcher", "when the first was accepted, in µs; a slot for each connection", "the connections"),
] = b"H"
REPLAY: Annotated[bytes, Kind("dispatcher", "a slot, and the bytes of its request", "the connection")] = b"B"
TURN: Annotated[
    bytes,
    Kind("dispatcher, if workers accept", "the index of a listener, and a slot for each connection to accept"),
] = b"T"
RETIRE: Annotated[bytes, Kind("dispatcher, to make the worker retire")] = b"R"
END: Annotated[bytes, Kind("dispatcher, when the server stops")] = b"E"
LOG: Annotated[bytes, Kind("dispatcher", descriptors="the access log, opened again")] = b"L"
SYNC: Annotated[
    bytes, Kind("a new dispatcher, in the place of a dead one", "the serial number of the dispatcher: see HOLDER")
] = b"Q"
READY: Annotated[bytes, Kind("worker, when it can serve", "its interface")] = b"Y"
FAILED: Annotated[bytes, Kind("worker", "why the worker could not start: JSON")] = b"X"
FINISHED: Annotated[
    bytes,
    Kind(
        "worker",
        "slots of ended connections that the ring had no room for, or that the dispatcher has to shut down",
    ),
] = b"F"
ACCEPTED: Annotated[bytes, Kind("worker, after TURN", "the slots of its turn that it used")] = b"A"
RETURNED: Annotated[bytes, Kind("worker", "slots of idle connections, for other workers")] = b"U"
MOVED: Annotated[bytes, Kind("worker", "a slot, and the bytes read of its connection, for another worker")] = b"V"
DROPPED: Annotated[
    bytes,
    Kind(
        "worker",
        "slots of connections for which its descriptor table had no room: other workers get them; without "
        "custody they are lost",
    ),
] = b"D"
ROOM: Annotated[bytes, Kind("worker, when it takes something after the dispatcher found it without credit")] = b"C"
SYNCED: Annotated[
    bytes,
    Kind(
        "worker, after SYNC, once it has sent all reports of before",
        "the serial number, and 1 if the worker has sent LEAVING, else 0",
    ),
] = b"K"
LEAVING: Annotated[bytes, Kind("worker, when it has got SIGTERM, or too many of its threads hang")] = b"O"

MOST_SLOTS = 8192
"""The greatest number of slots in one message: 32 KiB, well below the 64 KiB of a packet."""


def with_slots(kind: bytes, slots: Sequence[int]) -> bytes:
    """Write a message of a kind and up to `MOST_SLOTS` slots."""
    return kind + array.array("I", slots).tobytes()


def replay(slot: int, data: bytes) -> bytes:
    """Write REPLAY, with the bytes of a request."""
    return REPLAY + slot.to_bytes(4, sys.byteorder) + data


def moved(slot: int, data: bytes) -> bytes:
    """Write MOVED, with the bytes that were read."""
    return MOVED + slot.to_bytes(4, sys.byteorder) + data


def replayed(data: bytes) -> tuple[int, bytes]:
    """Read the slot and the bytes of a REPLAY or a MOVED."""
    return int.from_bytes(data[1:5], sys.byteorder), data[5:]


def sync(serial: int) -> bytes:
    """Write SYNC."""
    return SYNC + serial.to_bytes(8, sys.byteorder)


def synced(serial: int, *, leaving: bool) -> bytes:
    """Write SYNCED."""
    return SYNCED + serial.to_bytes(8, sys.byteorder) + bytes([leaving])


def synced_with(data: bytes) -> tuple[int, bool]:
    """Read the serial number of a SYNC or a SYNCED, and whether the worker has sent LEAVING."""
    return int.from_bytes(data[1:9], sys.byteorder), data[9:10] == b"\1"


def slots_of(data: bytes) -> array.array[int]:
    """Read the slots of a message.

    Raises:
        ProtocolError: The message ends within a number.
    """
    found = array.array("I")
    try:
        found.frombytes(memoryview(data)[1:])
    except ValueError as error:
        raise ProtocolError("a message of slots ends within a number") from error
    return found
