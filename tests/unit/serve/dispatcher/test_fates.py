"""What a new dispatcher does with each connection: both tables, row by row."""

import pytest

from fdpass.serve.dispatcher.fates import Fate, fate_at_start, fate_when_synced
from fdpass.serve.keeper.estate import FREE, HELD, owned_by
from fdpass.serve.shared.ledger import EPOCH, Holder


@pytest.mark.parametrize(
    ("owner", "number", "fate"),
    [
        (FREE, 0, Fate.NOTHING),
        (FREE, 8, Fate.CLOSE),
        (HELD, 0, Fate.DISCARD),
        (owned_by(2), 0, Fate.DISCARD),
        (HELD, 8, Fate.QUEUE),
        (owned_by(2), 8, Fate.NOTHING),
        (owned_by(3), 8, Fate.RECOVER),
    ],
)
def test_the_fate_of_a_slot_at_the_start(owner, number, fate):
    assert fate_at_start(owner, number, {0, 2}) is fate


@pytest.mark.parametrize(
    ("holder", "old", "new"),
    [
        (Holder.NOTHING, Fate.QUEUE, Fate.QUEUE),
        (Holder.TAKEN, Fate.NOTHING, Fate.NOTHING),
        (Holder.ENDED, Fate.CLOSE, Fate.NOTHING),
        (Holder.UNSHUT, Fate.CLOSE, Fate.NOTHING),
        (Holder.RETURNED, Fate.RECOVER, Fate.NOTHING),
        (Holder.DROPPED, Fate.RECOVER, Fate.NOTHING),
    ],
)
def test_the_fate_of_a_workers_connection_once_the_worker_has_sent_synced(holder, old, new):
    """With the epoch of an earlier dispatcher the report is the new one's to act on; else it is still to come."""
    for epoch in (0, 4):
        assert fate_when_synced(holder + EPOCH * epoch if holder else 0, 5) is old
    assert fate_when_synced(holder + EPOCH * 5 if holder else 0, 5) is new
