"""A receiver whose descriptor table is full: told exactly, and in acknowledged mode nothing is lost."""

import socket
import threading
from contextlib import ExitStack, contextmanager

import pytest

from fdpass import Channel, FdsLost, Policy, PolicyError
from fdpass.testing import after, faulty_pair, full_table, same_file
from fdpass.testing.conformance import sending, some_files

every_type = pytest.mark.parametrize("kind", ["seqpacket", "stream"])


@contextmanager
def channels(kind, **options):
    """A channel on a faulty socket, one on a plain one, and the faulty socket."""
    faulty, plain = faulty_pair(kind)
    with Channel(faulty, max_fds=1000, **options) as left, Channel(plain, max_fds=1000, **options) as right:
        left.settimeout(20)
        right.settimeout(20)
        yield left, right, faulty


@every_type
def test_policy_with_a_full_table(kind):
    """Telling a socket from a listener must not need a free slot, or must be a typed error."""
    with channels(kind, policy=Policy(kinds=frozenset({"pipe"}))) as (left, right, _):
        one, other = socket.socketpair()
        with one, other:
            left.send(b"x", [one])
        with full_table(free=1), pytest.raises(PolicyError):
            right.recv()


@every_type
def test_full_table_without_acknowledgement(kind):
    """The loss is told with what can be known, and the channel goes on."""
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
def test_full_table_acknowledged(kind, size, count, free):
    """The message is refused, comes again whole once there is room, and only then has the sender sent it."""
    on_its_way = threading.Event()
    pair = channels(kind, acknowledged=True)
    with pair as (left, right, faulty), some_files(count) as files, ExitStack() as stack:
        faulty.script = {("sendmsg", 1): after(on_its_way.set)}
        given = [stack.enter_context(fd.dup()) for fd in files]
        with sending(left, b"x" * size, given, give=True) as sent:
            on_its_way.wait(20)  # its memfd needs a slot of this same table
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
