"""A receiver whose descriptor table is full gets an exact error, and in acknowledged mode loses nothing."""

import socket
import threading
from contextlib import ExitStack

import pytest

from fdpass import FdsLost, Policy, PolicyError
from fdpass.testing import after, full_table, same_file
from fdpass.testing.conformance import sending, some_files

from ._channels import channels, every_type


@every_type
def test_a_policy_refuses_with_a_full_table(kind):
    """Whether a socket is a listener can be told without a free slot."""
    with channels(kind, policy=Policy(kinds=frozenset({"pipe"}))) as (left, right, _):
        one, other = socket.socketpair()
        with one, other:
            left.send(b"x", [one])
        with full_table(free=1), pytest.raises(PolicyError):
            right.recv()


@every_type
def test_a_full_table_loses_descriptors_of_a_plain_message_and_the_channel_goes_on(kind):
    """FdsLost has the reason, the data, the number of lost descriptors, and the descriptor that arrived."""
    with channels(kind) as (left, right, _), some_files(3) as files:
        left.send(b"data", files)
        with full_table(free=1), pytest.raises(FdsLost) as caught:
            right.recv()
        lost = caught.value
        assert (lost.reason, lost.data, lost.lost, lost.again) == ("table full", b"data", 2, False)
        (survivor,) = lost.fds
        assert same_file(survivor, files[0])
        survivor.close()
        left.send(b"after", files)
        with right.recv() as message:
            assert (message.data, len(message.fds)) == (b"after", 3)


@every_type
@pytest.mark.parametrize(("size", "count"), [(1, 3), (200_000, 3), (200_000, 300)])
@pytest.mark.parametrize("free", [0, 1, 2])
def test_with_a_full_table_an_acknowledged_message_comes_again_whole(kind, size, count, free):
    """recv raises FdsLost until there is room; only then does the send succeed."""
    on_its_way = threading.Event()
    pair = channels(kind, acknowledged=True)
    with pair as (left, right, faulty), some_files(count) as files, ExitStack() as stack:
        faulty.script = {("sendmsg", 1): after(on_its_way.set)}
        given = [stack.enter_context(fd.dup()) for fd in files]
        with sending(left, b"x" * size, given, give=True) as sent:
            on_its_way.wait(20)  # before the table is full: the sender in this process needs a slot for its memfd
            for _ in range(2):
                with full_table(free), pytest.raises(FdsLost) as caught:
                    right.recv()
                assert (caught.value.reason, caught.value.again, caught.value.fds) == ("table full", True, ())
                assert not sent.done()
                assert not any(fd.closed for fd in given)
            message = right.recv()
        with message:
            assert message.data == b"x" * size
            assert all(same_file(got, expected) for got, expected in zip(message.fds, files, strict=True))
        assert all(fd.closed for fd in given)
