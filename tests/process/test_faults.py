"""Every system call of a send and a receive, every error that it can return: typed, nothing lost, nothing left."""

import errno
import fcntl
import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from fdpass import (
    Channel,
    FdpassError,
    Policy,
    recv_fds,
    send_fds,
)
from fdpass.testing import EVERY, after, call_fails, fails, faulty_pair
from fdpass.testing.conformance import some_files

# What the man pages list, and what net/unix/af_unix.c and security modules return besides.
_SENDMSG = """EACCES EAGAIN EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL EISCONN EMSGSIZE ENOBUFS
    ENOMEM ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE EPERM ETOOMANYREFS ECONNREFUSED ENFILE EIO"""
_RECVMSG = "EAGAIN EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK ECONNRESET EPERM EACCES EIO"
SENDMSG, RECVMSG = ([getattr(errno, name) for name in names.split()] for names in (_SENDMSG, _RECVMSG))
PASSING = {errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}  # for a while only

every_type = pytest.mark.parametrize("kind", ["seqpacket", "stream"])
either_way = pytest.mark.parametrize("acknowledged", [False, True], ids=["plain", "acknowledged"])
every_size = pytest.mark.parametrize(("size", "count"), [(10, 2), (150_000, 300)], ids=["small", "large"])


def by_name(numbers):
    return pytest.mark.parametrize("number", numbers, ids=[errno.errorcode[number] for number in numbers])


@contextmanager
def channels(kind, **options):
    """A channel on a faulty socket, one on a plain one, and the faulty socket."""
    faulty, plain = faulty_pair(kind)
    with Channel(faulty, max_fds=1000, **options) as left, Channel(plain, max_fds=1000, **options) as right:
        left.settimeout(20)
        right.settimeout(20)
        yield left, right, faulty


def received_until_it_ends(channel):
    """All messages that come whole, as (length, number of descriptors)."""
    found = []
    with suppress(FdpassError):
        for message in channel:
            with message:
                found.append((len(message.data), len(message.fds)))
    return found


def sent_with_a_fault(kind, acknowledged, message, fault, at):
    """Give a message, with a fault at one sendmsg, then send another: (errors, received, number of sendmsg)."""
    size, count = message
    with channels(kind, acknowledged=acknowledged) as (left, right, faulty), some_files(count) as files:
        with ThreadPoolExecutor(1) as pool:
            receiving = pool.submit(received_until_it_ends, right)
            if fault:  # twice: the short way for small messages leaves errors to the long way, which tries again
                faulty.script = {("sendmsg", at): fault, ("sendmsg", at + 1): fault}
            errors = []
            for data, fds in ((b"x" * size, files), (b"after", ())):
                try:
                    left.send(data, fds, give=True)
                    errors.append(None)
                except FdpassError as error:
                    errors.append(error)
                if fds:
                    assert {fd.closed for fd in files} == {errors[0] is None}, "given, or still the sender's"
            calls = faulty.calls["sendmsg"]
            left.close()
            return errors, receiving.result(), calls


@every_type
@either_way
@every_size
@by_name(SENDMSG)
def test_sendmsg_fails(kind, acknowledged, size, count, number):
    """At each sendmsg of a message: either it passes, or a typed error leaves the channel usable or ended."""
    _, _, calls = sent_with_a_fault(kind, acknowledged, (size, count), None, 0)
    for at in range(1, calls):
        errors, received, _ = sent_with_a_fault(kind, acknowledged, (size, count), fails(number), at)
        if number in PASSING:
            assert errors == [None, None]
        else:
            assert errors[0] is not None
        expected = [
            message for message, error in zip([(size, count), (5, 0)], errors, strict=True) if error is None
        ]
        assert received == expected


def tries(channel, count):
    """Call recv until it has given so many messages, or has ended: messages' sizes, and the errors between."""
    found, errors = [], []
    while len(found) < count and len(errors) < 5:
        try:
            with channel.recv() as message:
                found.append((len(message.data), len(message.fds)))
        except FdpassError as error:
            errors.append(error)
    return found, errors


def received_with_a_fault(kind, acknowledged, fault, at):
    with channels(kind, acknowledged=acknowledged) as (left, right, faulty), some_files(300) as files:

        def send():
            with suppress(FdpassError):
                for data, fds in ((b"x" * 150_000, files), (b"after", files[:2])):
                    right.send(data, fds)

        if fault:
            faulty.script = {("recvmsg", at): fault}
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(send)
            found, errors = tries(left, 2)
            calls = faulty.calls["recvmsg"]
            left.close()
            done.result()
    return found, errors, calls


@every_type
@either_way
@by_name(RECVMSG)
def test_recvmsg_fails(kind, acknowledged, number):
    """At each recvmsg: what was there comes at the next try, or the channel has ended; never half a message."""
    _, _, calls = received_with_a_fault(kind, acknowledged, None, 0)
    for at in range(1, calls + 1):
        found, errors, _ = received_with_a_fault(kind, acknowledged, fails(number), at)
        whole = [(150_000, 300), (5, 2)]
        assert found == whole[: len(found)]
        if number in {errno.EAGAIN, errno.EINTR}:
            assert (found, errors) == (whole, [])
        elif found == whole:
            assert len(errors) <= 1
        else:
            assert len(errors) == 5, "an ended channel says so each time"


class _FailingPoll:
    """select.poll() whose first poll fails."""

    number = 0
    failed = False

    def __init__(self):
        self._real = _real_poll()

    def register(self, *args):
        self._real.register(*args)

    def poll(self, *args):
        if not type(self).failed:
            type(self).failed = True
            raise OSError(self.number, os.strerror(self.number))
        return self._real.poll(*args)


_real_poll = select.poll


@every_type
@by_name([errno.EINVAL, errno.ENOMEM, errno.EFAULT])
def test_poll_fails(kind, number, monkeypatch):
    """A poll that fails is a typed error, and the channel goes on."""
    with channels(kind) as (left, right, _):
        monkeypatch.setattr(_FailingPoll, "number", number)
        monkeypatch.setattr(_FailingPoll, "failed", False)
        monkeypatch.setattr(select, "poll", _FailingPoll)
        with pytest.raises(FdpassError):
            left.recv()
        right.send(b"after")
        with left.recv() as message:
            assert message.data == b"after"


def large_with(patches):
    """Send a message that travels in a memfd while a system call fails: the error, then one that passes."""
    with channels("seqpacket") as (left, right, _), some_files(2) as files:
        error = None
        with patches:
            try:
                left.send(b"x" * 200_000, files, give=True)
            except FdpassError as caught:
                error = caught
                assert not any(fd.closed for fd in files)
        if error is None:
            with right.recv() as message:
                assert message.data == b"x" * 200_000
        left.send(b"y" * 200_000)
        with right.recv() as message:
            assert message.data == b"y" * 200_000
    return error


@by_name([errno.EFAULT, errno.EINVAL, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM])
def test_memfd_create_fails(number):
    """EINVAL is an older kernel, and tried again without the newer flag; all else is a typed error."""
    error = large_with(call_fails(os, "memfd_create", number))
    assert (error is None) == (number == errno.EINVAL)


@by_name([errno.ENOSPC, errno.ENOMEM, errno.EIO, errno.EFBIG, errno.EDQUOT])
def test_write_fails(number):
    assert large_with(call_fails(os, "write", number)).errno == number


@by_name([errno.EPERM, errno.EBUSY, errno.EINVAL])
def test_sealing_fails(number):
    assert large_with(call_fails(fcntl, "fcntl", number)).errno == number


@contextmanager
def arrived(kind, data, count, **options):
    """The receiving channel of a message that the kernel has, whatever may become of both."""
    sent = threading.Event()
    with (
        channels(kind, **options) as (left, right, faulty),
        some_files(count) as files,
        ThreadPoolExecutor(1) as pool,
    ):
        faulty.script = {("sendmsg", 1): after(sent.set)}
        future = pool.submit(left.send, data, files)
        try:
            assert sent.wait(20)
            yield right
        finally:
            right.close()
            with suppress(FdpassError):
                future.result()


@pytest.mark.parametrize(("module", "name"), [(fcntl, "fcntl"), (os, "fstat"), (os, "preadv")])
@by_name([errno.EIO, errno.ENOMEM, errno.EBADF])
@either_way
def test_reading_a_memfd_fails(module, name, number, acknowledged):
    """A memfd that came but cannot be read: a typed error, and the descriptors that came with it are closed."""
    with arrived("seqpacket", b"x" * 200_000, 2, acknowledged=acknowledged) as channel:
        with call_fails(module, name, number), pytest.raises(FdpassError):
            channel.recv()


@every_type
@either_way
def test_policy_cannot_look(kind, acknowledged):
    """The policy's own system calls fail: what it could not judge is refused with a typed error, and closed."""
    policy = Policy(kinds=frozenset({"memfd"}))
    with arrived(kind, b"x", 2, acknowledged=acknowledged, policy=policy) as channel:
        with call_fails(os, "fstat", errno.EIO), pytest.raises(FdpassError):
            channel.recv()


@every_type
@by_name(SENDMSG)
def test_send_fds_fails(kind, number):
    """The bare call makes each error a typed one, and closes nothing of what it should give."""
    faulty, plain = faulty_pair(kind)
    with faulty, plain, some_files(1) as (fd,):
        faulty.script = {("sendmsg", EVERY): fails(number)}
        with pytest.raises(FdpassError) as caught:
            send_fds(faulty, b"x", [fd], give=True)
        assert not fd.closed
        assert caught.value.__cause__.errno == number


@every_type
@by_name(RECVMSG)
def test_recv_fds_fails(kind, number):
    faulty, plain = faulty_pair(kind)
    with faulty, plain:
        faulty.script = {("recvmsg", EVERY): fails(number)}
        with pytest.raises(FdpassError) as caught:
            recv_fds(faulty)
        assert caught.value.__cause__.errno == number


def test_given_numbers_are_closed_once():
    """A descriptor given by its number is closed exactly once, also when the send is repeated by a fault."""
    number = os.memfd_create("given")
    with channels("stream") as (left, right, faulty):
        faulty.script = {("sendmsg", 1): fails(errno.EINTR), ("sendmsg", 2): fails(errno.EAGAIN)}
        left.send(b"x", [number], give=True)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        right.recv().close()
