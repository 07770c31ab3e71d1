"""Any messages, split anywhere, with either end slow, arrive as the same messages with the same descriptors."""

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdpass import Channel, Fd
from fdpass.testing import EVERY, FaultySocket, open_fds, same_file, short

SIZES = [0, 1, 15, 16, 17, 1000, 65_519, 65_520, 65_535, 65_536, 65_537, 200_000]
messages = st.lists(
    st.tuples(st.sampled_from(SIZES) | st.integers(0, 300), st.sampled_from([0, 0, 1, 2, 5, 254])), max_size=50
)
# None: no limit for one call. Every list has a None, or 200,000 bytes would take a call for each byte.
limits = st.lists(st.sampled_from([1, 3, 15, 16, 17, 500, 65_536]), max_size=5).map(lambda sizes: [*sizes, None])
paces = st.sampled_from(["free", "slow sender", "slow receiver"])


@pytest.fixture(scope="module")
def files():
    """300 descriptors of four kinds, each of an open file of its own."""
    made = []
    for i in range(75):
        left, right = socket.socketpair()
        reader, writer = os.pipe()
        made += [os.memfd_create(str(i)), os.eventfd(0), left.detach(), reader]
        right.close()
        os.close(writer)
    owned = [Fd(number) for number in made]
    yield owned
    for fd in owned:
        fd.close()


def limiting(sizes, stuck):
    """A fault that limits each call to the next of these sizes, and sets ``stuck`` when a write finds no room."""
    following = cycle(sizes)

    def fault(call):
        size = next(following)
        try:
            return call.make() if size is None else short(size)(call)
        except BlockingIOError:
            stuck.set()
            raise

    return fault


def pump(source, target, sizes):
    """Forward bytes in pieces of these sizes, each with the descriptors that arrived with it."""
    try:
        for size in cycle(sizes):
            data, fds, _, _ = socket.recv_fds(source, size or 65_536, 253)
            try:
                if not data:
                    return
                target.sendall(data[socket.send_fds(target, [data], fds) :])
            finally:
                for fd in fds:
                    os.close(fd)
    except ConnectionError:  # an end was closed while data was in flight
        return
    finally:
        target.shutdown(socket.SHUT_WR)


@contextmanager
def pumped(sizes):
    """The two ends of a stream with a proxy in between, which splits both directions anew."""
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        ends = [stack.enter_context(sock) for _ in range(2) for sock in socket.socketpair()]
        left, near, far, right = ends
        pumps = pool.submit(pump, near, far, sizes), pool.submit(pump, far, near, sizes)
        try:
            yield left, right
        finally:
            for end in (near, far):
                end.shutdown(socket.SHUT_RDWR)
        for future in pumps:
            future.result()


def converse(left, right, sent, files, *, pace, stuck):
    """Send all messages at one end, receive them at the other: the received messages, still open."""
    turn = threading.Semaphore(0 if pace == "slow sender" else len(sent))

    def send():
        try:
            for i, (size, count) in enumerate(sent):
                turn.acquire()
                left.send(bytes([i + 1]) * size, files[i % 40 : i % 40 + count])
        finally:
            stuck.set()

    with ThreadPoolExecutor(1) as pool:
        done, received = pool.submit(send), []
        try:
            if pace == "slow receiver":
                stuck.wait()
            for _ in sent:
                turn.release()
                received.append(right.recv())
        except BaseException:
            right.close()  # so that the sender ends, too
            for message in received:
                message.close()
            raise
        done.result()
    return received


def check(received, sent, files):
    for i, (message, (size, count)) in enumerate(zip(received, sent, strict=True)):
        with message:
            assert message.data == bytes([i + 1]) * size
            assert len(message.fds) == count
            for got, expected in zip(message.fds, files[i % 40 : i % 40 + count], strict=True):
                assert same_file(got, expected)


def exchange(pair, sent, files, *, cut, pace, acknowledged):
    """Send and receive over channels of a pair of sockets, with limited calls at both ends."""
    stuck = threading.Event()
    if acknowledged:
        stuck.set()  # the sender waits for the receiver anyway
    write, read = cut
    one = FaultySocket.wrap(pair[0], {("sendmsg", EVERY): limiting(write, stuck)})
    other = FaultySocket.wrap(pair[1], {("recvmsg", EVERY): limiting(read, stuck)})
    options = {"acknowledged": acknowledged, "max_fds": 1000}
    with Channel(one, **options) as left, Channel(other, **options) as right:
        check(converse(left, right, sent, files, pace=pace, stuck=stuck), sent, files)


@given(sent=messages, cut=st.tuples(limits, limits), between=limits, pace=paces, acknowledged=st.booleans())
@settings(max_examples=200, deadline=None)
def test_messages_arrive_over_a_stream_with_a_proxy(files, sent, *, cut, between, pace, acknowledged):
    """With short writes, a proxy that splits anew, and short reads, nothing is lost, mixed up or left open."""
    before = open_fds()
    with pumped(between) as pair:
        exchange(pair, sent, files, cut=cut, pace=pace, acknowledged=acknowledged)
    assert open_fds() == before


@given(sent=messages, cut=st.tuples(limits, limits), pace=paces, acknowledged=st.booleans())
@settings(max_examples=100, deadline=None)
def test_messages_arrive_over_a_direct_stream(files, sent, *, cut, pace, acknowledged):
    """Without a proxy, the kernel itself merges and splits."""
    before = open_fds()
    exchange(socket.socketpair(), sent, files, cut=cut, pace=pace, acknowledged=acknowledged)
    assert open_fds() == before


@given(sent=messages, pace=paces, acknowledged=st.booleans())
@settings(max_examples=100, deadline=None)
def test_messages_arrive_over_packets(files, sent, *, pace, acknowledged):
    """The kernel does not split packets, but messages take several packets, or a memfd."""
    before = open_fds()
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    exchange(pair, sent, files, cut=([None], [None]), pace=pace, acknowledged=acknowledged)
    assert open_fds() == before


def test_many_small_messages_in_one_read_are_separate_again(files):
    """The kernel merges small messages on a stream into one read."""
    with ExitStack() as stack:
        left, right = (stack.enter_context(end) for end in Channel.pair("stream"))
        for i in range(200):
            left.send(b"%d" % i)
        assert [right.recv().data for _ in range(200)] == [b"%d" % i for i in range(200)]
