"""The messages between dispatcher and worker: what is written is read back, and nonsense is refused."""

import pytest

from fdpass.errors import ProtocolError
from fdpass.serve.shared import messages


@pytest.mark.parametrize("slots", [[], [0], [1, 2, 3], [2**32 - 1], list(range(messages.MOST_SLOTS))])
def test_slots_are_read_as_they_were_written(slots):
    data = messages.with_slots(messages.FINISHED, slots)
    assert data[:1] == messages.FINISHED
    assert list(messages.slots_of(data)) == slots
    assert len(data) < 65536


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7])
def test_a_message_that_ends_within_a_number_is_refused(length):
    with pytest.raises(ProtocolError, match="ends within a number"):
        messages.slots_of(messages.HANDOFF + bytes(length))


def test_each_kind_of_message_has_a_byte_of_its_own():
    words = [value for name, value in vars(messages).items() if name.isupper() and isinstance(value, bytes)]
    assert len(set(words)) == len(words)
    assert all(len(word) == 1 for word in words)


@pytest.mark.parametrize("serial", [0, 1, 2**40])
@pytest.mark.parametrize("leaving", [False, True])
def test_sync_and_synced_are_read_as_they_were_written(serial, leaving):
    assert messages.synced_with(messages.sync(serial)) == (serial, False)
    assert messages.synced_with(messages.synced(serial, leaving=leaving)) == (serial, leaving)
