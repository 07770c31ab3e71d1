"""`Reserve` leaves some descriptors free."""

import errno
import os
import resource

import pytest

from fdpass.serve.dispatcher.accept.reserve import Reserve


@pytest.fixture
def limit():
    """A limit just above what this process has open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = os.dup(0)
    os.close(number)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number + 40, before[1]))
    yield number + 40
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_only_the_reserve_is_left_until_a_descriptor_below_it_is_free(limit):
    reserve = Reserve()
    assert limit - 32 <= reserve.first < limit
    taken = []
    while (fd := os.dup(0)) < reserve.first:
        taken.append(fd)
    os.close(fd)
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            reserve.check(0)
        assert caught.value.errno == errno.EMFILE
        assert reserve.is_touched
        os.close(taken.pop())
        reserve.check(0)
        assert not reserve.is_touched
    finally:
        for each in taken:
            os.close(each)
