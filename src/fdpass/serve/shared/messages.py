"""The words between dispatcher and worker: how each stands in a message of their channel. Pure.

The first byte says which word; slots and counts follow as 32-bit words of this machine, for both ends are on it.

=====  ========  ==============================  ==============================  =================
byte   word      from                            content                         descriptors
=====  ========  ==============================  ==============================  =================
``S``  SETUP     dispatcher, first of all        JSON, see `setup`               see `setup`
``H``  HANDOFF   dispatcher                      a slot for each connection      the connections
``B``  REPLAY    dispatcher                      a slot, and the bytes of its    the connection
                                                 request
``T``  TURN      dispatcher (accept: worker)     a listener's index, and slots   none
``R``  RETIRE    dispatcher                      none                            none
``E``  END       dispatcher                      none                            none
``L``  LOG       dispatcher                      none                            the access log
``Y``  READY     worker                          none                            none
``X``  FAILED    worker                          why it could not start, JSON    none
``F``  FINISHED  worker                          slots of ended connections      none
``A``  ACCEPTED  worker (accept: worker)         the slots that it used          none
``U``  RETURNED  worker                          slots of idle connections that  none
                                                 another worker shall have
``V``  MOVED     worker                          a slot, and bytes that were     none
                                                 read of it
``D``  DROPPED   worker                          slots of connections for which  none
                                                 its table had no room: another
                                                 worker shall have them; without
                                                 custody they are lost
``C``  ROOM      worker                          none: it took something         none
``O``  LEAVING   worker                          none: it was asked to go        none
=====  ========  ==============================  ==============================  =================
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence

from fdpass.errors import ProtocolError

SETUP, HANDOFF, REPLAY, TURN, RETIRE, END, LOG = b"S", b"H", b"B", b"T", b"R", b"E", b"L"
READY, FAILED, FINISHED, RETURNED, MOVED = b"Y", b"X", b"F", b"U", b"V"
ACCEPTED, DROPPED, ROOM, LEAVING = b"A", b"D", b"C", b"O"

MOST_SLOTS = 8192
"""In one message: it stays well below the 64 KiB of a packet."""


def with_slots(word: bytes, slots: Sequence[int]) -> bytes:
    """A message of a word and up to `MOST_SLOTS` numbers."""
    return word + array.array("I", slots).tobytes()


def replay(slot: int, data: bytes) -> bytes:
    """REPLAY, with the bytes of a request."""
    return REPLAY + slot.to_bytes(4, sys.byteorder) + data


def moved(slot: int, data: bytes) -> bytes:
    """MOVED, with the bytes that were read."""
    return MOVED + slot.to_bytes(4, sys.byteorder) + data


def replayed(data: bytes) -> tuple[int, bytes]:
    """The slot and the bytes of REPLAY or MOVED."""
    return int.from_bytes(data[1:5], sys.byteorder), data[5:]


def slots_of(data: bytes) -> array.array[int]:
    """The numbers of a message.

    Raises:
        ProtocolError: It ends within a number.
    """
    found = array.array("I")
    try:
        found.frombytes(memoryview(data)[1:])
    except ValueError as error:
        raise ProtocolError("a message of slots ends within a number") from error
    return found
