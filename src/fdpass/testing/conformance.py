"""The conformance suite: checks that every implementation of a channel must pass, blocking or async.

`check_channel` runs all of `CHECKS` on an implementation. For one test per check, parametrize over ``CHECKS`` and
call each with your ``make_pair``. `check_async_channel` and `blocking_pairs` run the same checks on an async
channel. The checks compare descriptors by open file, not by content.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from fdpass import (
    Closed,
    Fd,
    Message,
    MessageTooLarge,
    NotADescriptor,
    PeerClosed,
    PeerRefused,
    Policy,
    PolicyError,
)
from fdpass.testing._leaks import same_file
from fdpass.testing._pairs import Blocking, BlockingChannel

Pair = tuple[BlockingChannel, BlockingChannel]
MakePair = Callable[..., AbstractContextManager[Pair]]
"""A function that takes options of `Channel` (``max_message``, ``max_fds``, ``policy``) and returns a context
manager of a connected pair. Both ends have the options, and the context manager closes both."""


def check_channel(make_pair: MakePair) -> None:
    """Run every check on a blocking implementation of a channel.

    Args:
        make_pair: Makes a connected pair: see `MakePair`.

    Raises:
        AssertionError: A check failed; the text says which behaviour is wrong.
        FdpassError: An operation failed that must succeed.
    """
    for check in CHECKS.values():
        check(make_pair)


def check_async_channel(make_pair: Callable[..., Any], backend: str = "asyncio", **loop_options: Any) -> None:
    """Run every check on an async implementation of a channel.

    Args:
        make_pair: A function that takes options of `AsyncChannel` and returns a connected pair. It is called in
            the event loop.
        backend: As for `anyio.run`.
        **loop_options: The ``backend_options`` of `anyio.run`.

    Raises:
        AssertionError: A check failed; the text says which behaviour is wrong.
        FdpassError: An operation failed that must succeed.
    """
    with start_blocking_portal(backend, loop_options) as portal:
        check_channel(blocking_pairs(portal, make_pair))


def blocking_pairs(portal: BlockingPortal, make_pair: Callable[..., Any]) -> MakePair:
    """Make a `MakePair` of an async implementation, whose operations run in the event loop of ``portal``."""

    @contextmanager
    def make(**options: Any) -> Iterator[Pair]:
        left, right = (Blocking(portal, end) for end in portal.call(lambda: make_pair(**options)))
        try:
            yield left, right
        finally:
            left.close()
            right.close()

    return make


def _expect(condition: object, failure: str) -> None:
    if not condition:  # not an assert statement, which python -O would remove
        raise AssertionError(failure)


@contextmanager
def _expect_error(kind: type[Exception], when: str) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{when}: expected {kind.__name__}, but nothing was raised")


@contextmanager
def sending(
    channel: BlockingChannel, data: bytes, fds: Sequence[Any] = (), **options: Any
) -> Iterator[Future[None]]:
    """Call ``channel.send`` in another thread while the block runs, since it may wait for the receiver.

    The end of the block waits for the thread, and raises the error of ``send``, if there was one.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(channel.send, data, fds, **options)
        try:
            yield future
        except BaseException:
            # The block failed. The shutdown ends a send that waits for room or for an answer.
            with suppress(OSError), socket.socket(fileno=os.dup(channel.fileno())) as duplicate:
                duplicate.shutdown(socket.SHUT_RDWR)
            raise
        future.result()


def passed(
    sender: BlockingChannel, receiver: BlockingChannel, data: bytes, fds: Sequence[Any] = (), **options: Any
) -> Message:
    """Send a message and receive it. The caller owns the message."""
    with sending(sender, data, fds, **options):
        return receiver.recv()


@contextmanager
def some_files(count: int) -> Iterator[list[Fd]]:
    """Open ``count`` empty memfds; the end of the ``with`` block closes them."""
    files: list[Fd] = []
    try:
        files.extend(Fd(os.memfd_create(f"conformance-{i}")) for i in range(count))
        yield files
    finally:
        for fd in files:
            fd.close()


def _same(message: Message, data: bytes, fds: Sequence[Fd], what: str) -> None:
    """Compare a received message with what was sent, and close it."""
    with message:
        lengths = f"{len(message.data)} bytes arrived, {len(data)} were sent"
        _expect(message.data == data, f"{what}: the bytes differ ({lengths})")
        _expect(len(message.fds) == len(fds), f"{what}: {len(message.fds)} of {len(fds)} descriptors arrived")
        for position, (got, sent) in enumerate(zip(message.fds, fds, strict=True)):
            _expect(same_file(got, sent), f"{what}: descriptor {position} is another open file")
            _expect(not os.get_inheritable(got.fileno()), f"{what}: descriptor {position} is not close-on-exec")


def data_of_any_size(make_pair: MakePair) -> None:
    with make_pair() as (left, right):
        for size in (0, 1, 2**16, 2**20, 2**20 + 1):
            data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            _same(passed(left, right, data), data, (), f"{size} bytes")


def any_number_of_descriptors(make_pair: MakePair) -> None:
    with make_pair(max_fds=1000) as (left, right), some_files(600) as files:
        for count in (0, 1, 253, 254, 600):
            _same(passed(left, right, b"", files[:count]), b"", files[:count], f"{count} descriptors")


def data_and_descriptors_together(make_pair: MakePair) -> None:
    data = os.urandom(2**20)
    with make_pair(max_fds=1000) as (left, right), some_files(300) as files:
        _same(passed(left, right, data, files), data, files, "1 MiB and 300 descriptors")


def lent_stays_given_goes(make_pair: MakePair) -> None:
    with make_pair() as (left, right), some_files(2) as (lent, given):
        keep = given.dup()
        with keep:
            _same(passed(left, right, b"lent", [lent]), b"lent", [lent], "lent")
            _expect(not lent.closed, "a lent descriptor was closed")
            _same(passed(left, right, b"given", [given], give=True), b"given", [keep], "given")
            _expect(given.closed, "a given descriptor is still open at the sender")


def given_stays_after_failure(make_pair: MakePair) -> None:
    with make_pair() as (left, right), some_files(1) as (fd,):
        right.close()
        with _expect_error(PeerClosed, "sending to a closed peer"):
            left.send(b"x", [fd], give=True)
        _expect(not fd.closed, "a descriptor that could not be given was closed")


def no_descriptor_no_message(make_pair: MakePair) -> None:
    with make_pair() as (left, right), some_files(1) as (fd,):
        for wrong in ("text", None, 1.5, object()):
            with _expect_error(NotADescriptor, f"sending {wrong!r} as a descriptor"):
                left.send(b"never", [fd, wrong])
        _same(passed(left, right, b"after"), b"after", (), "after refused calls")


def messages_keep_their_order(make_pair: MakePair) -> None:
    with make_pair() as (left, right), some_files(4) as files, ThreadPoolExecutor(1) as pool:
        messages = [(b"%d" % i * (i * 37 % 900), files[: i % 5]) for i in range(200)]

        def send() -> None:
            for data, fds in messages:
                left.send(data, fds)

        done = pool.submit(send)
        for i, (data, fds) in enumerate(messages):
            _same(right.recv(), data, fds, f"message {i} of {len(messages)}")
        done.result()


def both_ends_send(make_pair: MakePair) -> None:
    with make_pair() as (left, right), some_files(2) as (mine, yours):
        for _ in range(3):
            _same(passed(left, right, b"there", [mine]), b"there", [mine], "there")
            _same(passed(right, left, b"back", [yours]), b"back", [yours], "back")


def closing_is_seen(make_pair: MakePair) -> None:
    with make_pair() as (left, right):
        left.close()
        left.close()
        _expect(left.closed and not right.closed, "closed is True at the wrong end, or at none")
        for _ in range(2):
            with _expect_error(PeerClosed, "receiving when the peer has closed"):
                right.recv()
        with _expect_error(PeerClosed, "sending when the peer has closed"):
            right.send(b"x")
        _expect(left.fileno() == -1, "a closed channel still has a number")
        for act in (left.recv, lambda: left.send(b"x")):
            with _expect_error(Closed, "using a closed channel"):
                act()


def iteration_ends_with_the_peer(make_pair: MakePair) -> None:
    with make_pair() as (left, right), ThreadPoolExecutor(1) as pool:

        def send() -> None:
            for data in (b"a", b"", b"c"):
                left.send(data)
            left.close()

        done = pool.submit(send)
        _expect([message.data for message in right] == [b"a", b"", b"c"], "iteration returned other messages")
        done.result()


def _refused(pair: Pair, kind: type[Exception], data: bytes, fds: Sequence[Fd], why: str) -> None:
    left, right = pair
    given = [fd.dup() for fd in fds]
    try:
        sender_knows = False
        try:
            with sending(left, data, given, give=True), _expect_error(kind, why):
                right.recv()
        except PeerRefused:  # raised in acknowledged mode only
            sender_knows = True
        _expect(all(fd.closed != sender_knows for fd in given), f"{why}: the wrong side owns the descriptors")
        _same(passed(left, right, b"after"), b"after", (), f"after {why}")
    finally:
        for fd in given:
            fd.close()


def too_large_is_refused(make_pair: MakePair) -> None:
    with make_pair(max_message=1000) as pair:
        for size in (1001, 70_000, 2**20):
            _refused(pair, MessageTooLarge, b"x" * size, (), f"{size} bytes with max_message=1000")
        _same(passed(*pair, b"x" * 1000), b"x" * 1000, (), "1000 bytes with max_message=1000")


def too_many_are_refused(make_pair: MakePair) -> None:
    with make_pair(max_fds=2) as pair, some_files(300) as files:
        for count in (3, 300):
            _refused(pair, MessageTooLarge, b"x", files[:count], f"{count} descriptors with max_fds=2")
        _same(passed(*pair, b"x", files[:2]), b"x", files[:2], "2 descriptors with max_fds=2")


def policy_refuses(make_pair: MakePair) -> None:
    with make_pair(policy=Policy(kinds=frozenset({"pipe"}))) as pair, some_files(1) as files:
        _refused(pair, PolicyError, b"x", files, "a memfd with a policy that admits pipes")
        reader, writer = map(Fd, os.pipe())
        with reader, writer:
            message = passed(*pair, b"x", [reader, writer])
            _same(message, b"x", [reader, writer], "a pipe with a policy that admits pipes")


CHECKS: dict[str, Callable[[MakePair], None]] = {
    check.__name__: check
    for check in (
        data_of_any_size,
        any_number_of_descriptors,
        data_and_descriptors_together,
        lent_stays_given_goes,
        given_stays_after_failure,
        no_descriptor_no_message,
        messages_keep_their_order,
        both_ends_send,
        closing_is_seen,
        iteration_ends_with_the_peer,
        too_large_is_refused,
        too_many_are_refused,
        policy_refuses,
    )
}
