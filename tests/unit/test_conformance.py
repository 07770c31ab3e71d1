"""The conformance suite, run on every kind of channel: blocking and async, every type, every mode."""

from contextlib import contextmanager

import pytest
from anyio.from_thread import start_blocking_portal

from fdpass import AsyncChannel, Channel, Message
from fdpass.testing import channel_pair, check_async_channel, check_channel
from fdpass.testing.conformance import CHECKS, blocking_pairs

from ._channels import LOOPS, either_way, every_loop, every_type

every_check = pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)


@every_check
@every_type
@either_way
def test_channel_passes_the_check(check, kind, acknowledged):
    check(lambda **options: channel_pair(kind, acknowledged=acknowledged, **options))


@every_check
@every_type
@either_way
@every_loop
def test_async_channel_passes_the_check(check, kind, acknowledged, loop):
    backend, options = LOOPS[loop]
    with start_blocking_portal(backend, options) as portal:
        check(blocking_pairs(portal, lambda **more: AsyncChannel.pair(kind, acknowledged=acknowledged, **more)))


def test_both_kinds_of_channel_pass_all_checks_in_one_call():
    """Users call these two functions."""
    check_channel(channel_pair)
    check_async_channel(AsyncChannel.pair)


class _LosesDescriptorsInSend(Channel):
    def send(self, data, fds=(), *, give=False):
        super().send(data, list(fds)[:5])

    def recv(self):
        return super().recv()


class _LosesDescriptorsInRecv(Channel):
    def recv(self):
        with super().recv() as message:
            return Message(message.data)


@pytest.mark.parametrize("kind", [_LosesDescriptorsInSend, _LosesDescriptorsInRecv])
def test_a_channel_that_loses_descriptors_does_not_pass(kind):
    """The suite finds a channel that drops descriptors in send, and one that drops them in recv."""

    @contextmanager
    def make(**options):
        left, right = kind.pair(**options)
        with left, right:
            yield left, right

    with pytest.raises(AssertionError, match=r"of \d+ descriptors arrived"):
        check_channel(make)
