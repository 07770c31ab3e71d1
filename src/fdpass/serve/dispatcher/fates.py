"""What a new dispatcher does with each connection that the dead one has left: two tables, pure.

The first is for all slots, at once. OWNER, NUMBER and HOLDER are explained in `keeper.estate`.

==============================================  =======
what the estate has                             then
==============================================  =======
OWNER is FREE, and there is no NUMBER           NOTHING
OWNER is FREE, and there is a NUMBER            CLOSE
another OWNER, and there is no NUMBER           DISCARD
OWNER is HELD                                   QUEUE
OWNER is a worker of which nothing is known     RECOVER
OWNER is a worker                               NOTHING
==============================================  =======

The second is for the connections of one worker, once the worker has sent SYNCED and its ring has been read.

==============================================  =======
what HOLDER has                                 then
==============================================  =======
NOTHING                                         QUEUE
TAKEN                                           NOTHING
any other, with the epoch of this dispatcher    NOTHING
ENDED or UNSHUT, with an older epoch            CLOSE
RETURNED or DROPPED, with an older epoch        RECOVER
==============================================  =======
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum

from fdpass.serve.keeper.estate import FREE, HELD, row_of
from fdpass.serve.shared.ledger import EPOCH, Holder


class Fate(Enum):
    """What to do with a connection.

    Attributes:
        NOTHING: There is none; or its worker has it, and will report its end.
        CLOSE: It has ended: shut it down, for whatever process still has it, and close it.
        DISCARD: No connection is in the slot yet, or no more: free the slot.
        QUEUE: The slot is ready for the next worker.
        RECOVER: Decide by the slot, as at a worker's death.
    """

    NOTHING = "nothing"
    CLOSE = "close"
    DISCARD = "discard"
    QUEUE = "queue"
    RECOVER = "recover"


def fate_at_start(owner: int, number: int, rows: Container[int]) -> Fate:
    """The first table.

    Args:
        owner: OWNER of a slot; a slot that was offered to a worker is not in the table.
        number: NUMBER of the slot.
        rows: The rows of all workers that the estate has.
    """
    if owner == FREE:
        return Fate.CLOSE if number else Fate.NOTHING
    if not number:
        return Fate.DISCARD
    if owner == HELD:
        return Fate.QUEUE
    return Fate.NOTHING if row_of(owner) in rows else Fate.RECOVER


def fate_when_synced(holder: int, serial: int) -> Fate:
    """The second table.

    Args:
        holder: HOLDER of a connection of the worker.
        serial: The serial number of this dispatcher.
    """
    epoch, done = divmod(holder, EPOCH)
    if done == Holder.NOTHING:
        return Fate.QUEUE
    if done == Holder.TAKEN or epoch == serial:
        return Fate.NOTHING
    return Fate.CLOSE if done in {Holder.ENDED, Holder.UNSHUT} else Fate.RECOVER
