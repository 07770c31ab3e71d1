"""One suite for every channel: blocking and async, packets and stream, acknowledged or not."""

from contextlib import contextmanager

import pytest
from anyio.from_thread import start_blocking_portal

from fdpass import AsyncChannel, Channel, Message
from fdpass.testing import channel_pair, check_async_channel, check_channel
from fdpass.testing.conformance import CHECKS, blocking_pairs

LOOPS = {"asyncio": ("asyncio", {}), "uvloop": ("asyncio", {"use_uvloop": True}), "trio": ("trio", {})}

every_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
every_type = pytest.mark.parametrize("kind", ["seqpacket", "stream"])
either_way = pytest.mark.parametrize("acknowledged", [False, True], ids=["plain", "acknowledged"])


@every_check
@every_type
@either_way
def test_blocking_channel(check, kind, acknowledged):
    """A Channel does what a channel must."""
    check(lambda **options: channel_pair(kind, acknowledged=acknowledged, **options))


@every_check
@every_type
@either_way
@pytest.mark.parametrize("loop", LOOPS)
def test_async_channel(check, kind, acknowledged, loop):
    """An AsyncChannel does the same on every loop."""
    backend, options = LOOPS[loop]
    with start_blocking_portal(backend, options) as portal:
        check(blocking_pairs(portal, lambda **more: AsyncChannel.pair(kind, acknowledged=acknowledged, **more)))


def test_the_whole_suite_in_one_call():
    """What a user calls runs every check, for both kinds."""
    check_channel(channel_pair)
    check_async_channel(AsyncChannel.pair)


class _Careless(Channel):
    """A channel that loses what the suite is there to find."""

    def send(self, data, fds=(), *, give=False):
        super().send(data, list(fds)[:5])

    def recv(self):
        return super().recv()


class _Forgetful(Channel):
    def recv(self):
        with super().recv() as message:
            return Message(message.data)


@pytest.mark.parametrize("kind", [_Careless, _Forgetful])
def test_a_wrong_channel_does_not_pass(kind):
    """The suite can fail: a channel that drops descriptors is found out."""

    @contextmanager
    def make(**options):
        left, right = kind.pair(**options)
        with left, right:
            yield left, right

    with pytest.raises(AssertionError, match=r"of \d+ descriptors arrived"):
        check_channel(make)
