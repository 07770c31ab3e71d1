"""The conformance suite: what every channel must do, blocking or async, whatever carries it.

`check_channel` puts an implementation through all of `CHECKS`; to have each as a test of its own, parametrize
over ``CHECKS`` and hand ``make_pair`` to the function. An async channel goes through the same checks: see
`check_async_channel` and `blocking_pairs`. Descriptors are compared by open file description, not by content.
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
"""Given options of `Channel` (``max_message``, ``max_fds``, ``policy``), a context manager of a connected pair
that has them at both ends and closes both."""


def check_channel(make_pair: MakePair) -> None:
    """Put a channel implementation through every check.

    Raises:
        AssertionError: It does not do what a channel must; the text says what.
        FdpassError: An operation failed that must not.
    """
    for check in CHECKS.values():
        check(make_pair)


def check_async_channel(make_pair: Callable[..., Any], backend: str = "asyncio", **loop_options: Any) -> None:
    """Put an async channel implementation through every check.

    Args:
        make_pair: Given options of `AsyncChannel`, a connected pair. Called in the loop.
        backend: As of `anyio.run`.
        **loop_options: As ``backend_options`` of `anyio.run`.
    """
    with start_blocking_portal(backend, loop_options) as portal:
        check_channel(blocking_pairs(portal, make_pair))


def blocking_pairs(portal: BlockingPortal, make_pair: Callable[..., Any]) -> MakePair:
    """A `MakePair` of an async implementation, each of whose operations runs in the loop behind ``portal``."""

    @contextmanager
    def make(**options: Any) -> Iterator[Pair]:
        left, right = (Blocking(portal, end) for end in portal.call(lambda: make_pair(**options)))
        try:
            yield left, right
        finally:
            left.close()
            right.close()

    return make


def _expect(truth: object, otherwise: str) -> None:
    if not truth:  # not an assert statement: these checks must also check under python -O
        raise AssertionError(otherwise)


@contextmanager
def _expect_error(kind: type[Exception], when: str) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{when}: expected {kind.__name__}, and nothing was raised")


@contextmanager
def sending(
    channel: BlockingChannel, data: bytes, fds: Sequence[Any] = (), **options: Any
) -> Iterator[Future[None]]:
    """``channel.send`` in another thread while the block runs: it may wait for the receiver.

    Leaving the block waits for it, and raises what it raised.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(channel.send, data, fds, **options)
        try:
            yield future
        except BaseException:
            # The block failed, and a thread that waits for room or an answer would wait for ever.
            with suppress(OSError), socket.socket(fileno=os.dup(channel.fileno())) as cut:
                cut.shutdown(socket.SHUT_RDWR)
            raise
        future.result()


def passed(
    sender: BlockingChannel, receiver: BlockingChannel, data: bytes, fds: Sequence[Any] = (), **options: Any
) -> Message:
    """Send a message and receive it. You own what is returned."""
    with sending(sender, data, fds, **options):
        return receiver.recv()


@contextmanager
def some_files(count: int) -> Iterator[list[Fd]]:
    """So many descriptors, each of an open file description of its own (memfds, all of them empty)."""
    files: list[Fd] = []
    try:
        files.extend(Fd(os.memfd_create(f"conformance-{i}")) for i in range(count))
        yield files
    finally:
        for fd in files:
            fd.close()


def _same(message: Message, data: bytes, fds: Sequence[Fd], what: str) -> None:
    """Check a received message against what was sent, and close it."""
    with message:
        _expect(message.data == data, f"{what}: other bytes arrived ({len(message.data)}, sent {len(data)})")
        _expect(len(message.fds) == len(fds), f"{what}: {len(message.fds)} descriptors arrived of {len(fds)}")
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
        _expect(left.closed and not right.closed, "closed is not what was done")
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
        _expect([message.data for message in right] == [b"a", b"", b"c"], "iteration gave other messages")
        done.result()


def _refused(pair: Pair, kind: type[Exception], data: bytes, fds: Sequence[Fd], why: str) -> None:
    left, right = pair
    given = [fd.dup() for fd in fds]
    try:
        told = False
        try:
            with sending(left, data, given, give=True), _expect_error(kind, why):
                right.recv()
        except PeerRefused:  # an acknowledged sender learns of it
            told = True
        _expect(all(fd.closed != told for fd in given), f"{why}: ownership is not where it should be")
        _same(passed(left, right, b"after"), b"after", (), f"after {why}")
    finally:
        for fd in given:
            fd.close()


def too_large_is_refused(make_pair: MakePair) -> None:
    with make_pair(max_message=1000) as pair:
        for size in (1001, 70_000, 2**20):
            _refused(pair, MessageTooLarge, b"x" * size, (), f"{size} bytes where 1000 are admitted")
        _same(passed(*pair, b"x" * 1000), b"x" * 1000, (), "1000 bytes where 1000 are admitted")


def too_many_are_refused(make_pair: MakePair) -> None:
    with make_pair(max_fds=2) as pair, some_files(300) as files:
        for count in (3, 300):
            _refused(pair, MessageTooLarge, b"x", files[:count], f"{count} descriptors where 2 are admitted")
        _same(passed(*pair, b"x", files[:2]), b"x", files[:2], "2 descriptors where 2 are admitted")


def policy_refuses(make_pair: MakePair) -> None:
    with make_pair(policy=Policy(kinds=frozenset({"pipe"}))) as pair, some_files(1) as files:
        _refused(pair, PolicyError, b"x", files, "a memfd where pipes are admitted")
        reader, writer = map(Fd, os.pipe())
        with reader, writer:
            _same(passed(*pair, b"x", [reader, writer]), b"x", [reader, writer], "a pipe where pipes are admitted")


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
