"""Each system call of send and recv fails with each possible errno: a typed error, no loss, no leak."""

import errno
import fcntl
import os
import select
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from fdpass import (
    FdpassError,
    Policy,
    recv_fds,
    send_fds,
)
from fdpass.testing import EVERY, after, call_fails, fails, faulty_pair
from fdpass.testing.conformance import some_files

from ._channels import channels, either_way, every_type

# The errors in the man pages, and those of net/unix/af_unix.c and of security modules.
_SENDMSG = """EACCES EAGAIN EALREADY EBADF ECONNRESET EDESTADDRREQ EFAULT EINTR EINVAL EISCONN EMSGSIZE ENOBUFS
    ENOMEM ENOTCONN ENOTSOCK EOPNOTSUPP EPIPE EPERM ETOOMANYREFS ECONNREFUSED ENFILE EIO"""
_RECVMSG = "EAGAIN EBADF ECONNREFUSED EFAULT EINTR EINVAL ENOMEM ENOTCONN ENOTSOCK ECONNRESET EPERM EACCES EIO"
SENDMSG, RECVMSG = ([getattr(errno, name) for name in names.split()] for names in (_SENDMSG, _RECVMSG))
TEMPORARY = {errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}

every_size = pytest.mark.parametrize(("size", "count"), [(10, 2), (150_000, 300)], ids=["small", "large"])


def by_name(numbers):
    return pytest.mark.parametrize("number", numbers, ids=[errno.errorcode[number] for number in numbers])


def received_until_it_ends(channel):
    """Receive until an error: for each message, its length and its number of descriptors."""
    found = []
    with suppress(FdpassError):
        for message in channel:
            with message:
                found.append((len(message.data), len(message.fds)))
    return found


def sent_with_a_fault(kind, acknowledged, message, fault, at):
    """Give a message with a fault at a sendmsg, then send another: errors, received messages, calls."""
    size, count = message
    with channels(kind, acknowledged=acknowledged) as (left, right, faulty), some_files(count) as files:
        with ThreadPoolExecutor(1) as pool:
            receiving = pool.submit(received_until_it_ends, right)
            if fault:  # at two calls: after an error, send_now() leaves the message to a second sendmsg
                faulty.script = {("sendmsg", at): fault, ("sendmsg", at + 1): fault}
            errors = []
            for data, fds in ((b"x" * size, files), (b"after", ())):
                try:
                    left.send(data, fds, give=True)
                    errors.append(None)
                except FdpassError as error:
                    errors.append(error)
                if fds:
                    assert {fd.closed for fd in files} == {errors[0] is None}, (
                        "closed, but not sent, or the reverse"
                    )
            calls = faulty.calls["sendmsg"]
            left.close()
            return errors, receiving.result(), calls


@every_type
@either_way
@every_size
@by_name(SENDMSG)
def test_each_error_of_sendmsg_is_retried_or_raised(kind, acknowledged, size, count, number):
    """At each sendmsg of a message: temporary errors are retried, others raised; no message arrives in part."""
    _, _, calls = sent_with_a_fault(kind, acknowledged, (size, count), None, 0)
    for at in range(1, calls):
        errors, received, _ = sent_with_a_fault(kind, acknowledged, (size, count), fails(number), at)
        if number in TEMPORARY:
            assert errors == [None, None]
        else:
            assert errors[0] is not None
        expected = [
            message for message, error in zip([(size, count), (5, 0)], errors, strict=True) if error is None
        ]
        assert received == expected


def tries(channel, count):
    """Receive until there are ``count`` messages or 5 errors: the sizes of the messages, and the errors."""
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
def test_each_error_of_recvmsg_ends_the_channel_or_the_next_recv_succeeds(kind, acknowledged, number):
    """At each recvmsg of a message; no message arrives in part."""
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
    """A select.poll object; the first poll of all such objects fails."""

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
def test_an_error_of_poll_is_raised_and_the_channel_goes_on(kind, number, monkeypatch):
    with channels(kind) as (left, right, _):
        monkeypatch.setattr(_FailingPoll, "number", number)
        monkeypatch.setattr(_FailingPoll, "failed", False)
        monkeypatch.setattr(select, "poll", _FailingPoll)
        with pytest.raises(FdpassError):
            left.recv()
        right.send(b"after")
        with left.recv() as message:
            assert message.data == b"after"


def error_of_large_message(failing_call):
    """Send a message that needs a memfd while a system call fails, then send another: the error of the first."""
    with channels("seqpacket") as (left, right, _), some_files(2) as files:
        error = None
        with failing_call:
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
def test_each_error_of_memfd_create_is_raised_but_einval_is_retried(number):
    """EINVAL is how an older kernel refuses a flag: share() tries again without it."""
    error = error_of_large_message(call_fails(os, "memfd_create", number))
    assert (error is None) == (number == errno.EINVAL)


@by_name([errno.ENOSPC, errno.ENOMEM, errno.EIO, errno.EFBIG, errno.EDQUOT])
def test_each_error_of_write_to_a_memfd_is_raised(number):
    assert error_of_large_message(call_fails(os, "write", number)).errno == number


@by_name([errno.EPERM, errno.EBUSY, errno.EINVAL])
def test_each_error_of_sealing_a_memfd_is_raised(number):
    assert error_of_large_message(call_fails(fcntl, "fcntl", number)).errno == number


@contextmanager
def arrived(kind, data, count, **options):
    """A channel for which a message waits; sender and receiver may fail afterwards."""
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
def test_an_error_of_reading_a_memfd_is_raised_and_closes_all_descriptors(module, name, number, acknowledged):
    with arrived("seqpacket", b"x" * 200_000, 2, acknowledged=acknowledged) as channel:
        with call_fails(module, name, number), pytest.raises(FdpassError):
            channel.recv()


@every_type
@either_way
def test_descriptors_that_the_policy_cannot_examine_are_refused_and_closed(kind, acknowledged):
    policy = Policy(kinds=frozenset({"memfd"}))
    with arrived(kind, b"x", 2, acknowledged=acknowledged, policy=policy) as channel:
        with call_fails(os, "fstat", errno.EIO), pytest.raises(FdpassError):
            channel.recv()


@every_type
@by_name(SENDMSG)
def test_each_error_of_send_fds_leaves_the_given_descriptor_open(kind, number):
    """The error is one of fdpass, and has the OSError as its cause."""
    faulty, plain = faulty_pair(kind)
    with faulty, plain, some_files(1) as (fd,):
        faulty.script = {("sendmsg", EVERY): fails(number)}
        with pytest.raises(FdpassError) as caught:
            send_fds(faulty, b"x", [fd], give=True)
        assert not fd.closed
        assert caught.value.__cause__.errno == number


@every_type
@by_name(RECVMSG)
def test_each_error_of_recv_fds_is_one_of_fdpass(kind, number):
    faulty, plain = faulty_pair(kind)
    with faulty, plain:
        faulty.script = {("recvmsg", EVERY): fails(number)}
        with pytest.raises(FdpassError) as caught:
            recv_fds(faulty)
        assert caught.value.__cause__.errno == number


def test_a_given_number_is_closed_once_although_the_send_was_repeated():
    number = os.memfd_create("given")
    with channels("stream") as (left, right, faulty):
        faulty.script = {("sendmsg", 1): fails(errno.EINTR), ("sendmsg", 2): fails(errno.EAGAIN)}
        left.send(b"x", [number], give=True)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        right.recv().close()
