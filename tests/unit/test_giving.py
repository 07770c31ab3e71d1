"""Descriptors that are given: each is closed once, after the kernel took it, whatever form it came in."""

import errno
import os
import socket

import anyio
import pytest

from fdpass import (
    AsyncChannel,
    BadDescriptor,
    Channel,
    Fd,
    InvalidMessage,
    NotADescriptor,
    recv_fds,
    send_fds,
)


def by_socket(items):
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        send_fds(left, b"x", items, give=True)
        with recv_fds(right) as message:
            return len(message)


def by_channel(items):
    left, right = Channel.pair()
    with left, right:
        left.send(b"x", items, give=True)
        with right.recv() as message:
            return len(message)


def by_async_channel(items):
    async def main():
        left, right = AsyncChannel.pair()
        async with left, right:
            await left.send(b"x", items, give=True)
            with await right.recv() as message:
                return len(message)

    return anyio.run(main)


every_way = pytest.mark.parametrize("give", [by_socket, by_channel, by_async_channel])


class Owner:
    """Owns a descriptor, cannot be hashed, and is equal to every other."""

    def __init__(self, number, error=None):
        self.number, self.error, self.closed = number, error, 0

    def __eq__(self, other):
        return True

    __hash__ = None

    def fileno(self):
        return self.number

    def close(self):
        self.closed += 1
        os.close(self.number)
        if self.error:
            raise self.error


class Count(int):
    """A number of a class of its own, which a descriptor can be as well."""


@pytest.fixture
def numbers():
    """Two descriptors that the test gives away."""
    return os.pipe()


@pytest.fixture(autouse=True)
def closes(monkeypatch):
    """Fail if a number is closed that is not open: by then it could be another file's."""
    real = os.close
    failed = []

    def close(number):
        try:
            real(number)
        except OSError:
            failed.append(number)
            raise

    monkeypatch.setattr(os, "close", close)
    yield
    assert failed == []


@every_way
def test_equal_objects_without_a_hash_are_each_closed_once(give, numbers):
    """What is one descriptor is told by identity and by number."""
    items = [Owner(number) for number in numbers]
    assert give([*items, items[0]]) == 3
    assert [item.closed for item in items] == [1, 1]


@every_way
def test_a_number_beside_its_owner_is_closed_once(give, numbers):
    """In either order, and as often as it is there."""
    r, w = map(Fd, numbers)
    assert give([r, r.fileno(), w.fileno(), Count(w.fileno()), w]) == 5
    assert (r.closed, w.closed) == (True, True)


@every_way
def test_numbers_alone_are_closed_once(give, numbers):
    """Of any class of int."""
    assert give([numbers[0], Count(numbers[0]), numbers[1]]) == 3


@every_way
def test_two_owners_of_one_descriptor_are_refused(give, numbers):
    """The second would close the number when it can be another file's. Nothing is sent, nothing closed."""
    owner, other = Owner(numbers[0]), Owner(numbers[0])
    with Fd(numbers[0]), Fd(numbers[1]):
        with pytest.raises(InvalidMessage, match="own one descriptor"):
            give([owner, other])
        with pytest.raises(NotADescriptor, match="no close"):
            give([type("Lender", (), {"fileno": lambda _self: numbers[0]})()])
    assert (owner.closed, other.closed) == (0, 0)


@every_way
def test_all_are_closed_before_a_failure_to_close_is_raised(give, numbers):
    """A file object, for instance, fails to write its buffer to a full disk."""
    full = OSError(errno.ENOSPC, "No space left on device")
    items = [Owner(numbers[0], full), Owner(numbers[1])]
    with pytest.raises(OSError, match="No space left"):
        give(items)
    assert [item.closed for item in items] == [1, 1]


@every_way
def test_a_number_that_is_not_open_is_named(give, numbers):
    """Nothing is sent, and the others stay open."""
    with (
        Fd(numbers[0]),
        Fd(numbers[1]),
        pytest.raises(BadDescriptor, match="descriptor 99999 is not open") as caught,
    ):
        give([*numbers, 99999])
    assert caught.value.errno == errno.EBADF
