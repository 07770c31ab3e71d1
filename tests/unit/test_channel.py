"""`Channel`: behaviour that the conformance suite does not check."""

import errno
import os
import socket
import threading

import anyio
import pytest

import fdpass
from fdpass import AsyncChannel, Channel, Closed, Fd, MessageTooLarge, PeerClosed, ProtocolError, Timeout, send_fds
from fdpass._framing import Kind, header
from fdpass._outbox import Outbox
from fdpass.testing import call_fails


def test_messages_that_the_kernel_merged_on_a_stream_are_separate_again():
    """The kernel merges small messages into one read."""
    one, other = Channel.pair("stream")
    with one, other:
        for i in range(200):
            one.send(b"%d" % i)
        one.close()
        assert [int(message.data) for message in other] == list(range(200))


@pytest.mark.parametrize("kind", ["seqpacket", "stream"])
def test_messages_of_changing_sizes_and_counts_keep_their_own_descriptors(kind):
    """Both ends remember the newest header: a message may differ from the one before in one number alone."""
    forms = [(size, count) for size in (0, 1, 2, 1) for count in (0, 1, 2, 1)]
    one, other = Channel.pair(kind)
    with one, other:
        for size, count in [*forms, *reversed(forms), *forms[:2], *forms[:2]]:
            one.send(b"x" * size, [0] * count)
            with other.recv() as message:
                assert (message.data, len(message)) == (b"x" * size, count)


@pytest.mark.parametrize(
    "packet",
    [
        (header(Kind.MESSAGE, 0, 2, 1, 0) + b"x", 1),
        (header(Kind.MESSAGE, 0, 1, 2, 0) + b"x", 1),
        (header(Kind.MESSAGE, 0, 1, 1, 0) + b"xy", 1),
        (header(Kind.MESSAGE, 0, 1, 1, 0) + b"x", 2),
        (header(Kind.MESSAGE, 0, 1, 1, 0) + b"x", 0),
        (b"xd" + header(Kind.MESSAGE, 0, 1, 1, 0)[2:] + b"x", 1),
    ],
    ids=["count", "length", "a byte more", "a descriptor more", "a descriptor less", "magic"],
)
def test_a_false_frame_after_a_good_one_is_a_protocol_error(packet):
    """A header that was accepted once must not vouch for another packet; no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ends[0] as raw, Channel(ends[1]) as channel:
        send_fds(raw, header(Kind.MESSAGE, 0, 1, 1, 0) + b"x", [0])
        channel.recv().close()
        send_fds(raw, packet[0], [0] * packet[1])
        with pytest.raises(ProtocolError):
            channel.recv()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_end_of_the_peer_is_no_message():
    """recvmsg returns no bytes and no descriptors, as a message of nothing but a header never does."""
    one, other = Channel.pair()
    with other:
        with one:
            one.send(b"")
        assert other.recv().data == b""
        with pytest.raises(PeerClosed):
            other.recv()


@pytest.mark.parametrize("type", ["seqpacket", "stream"])
def test_messages_of_a_peer_that_has_closed_are_still_received(type):
    """If the peer left data unread, the kernel reports ECONNRESET before the messages that are still queued."""
    one, other = Channel.pair(type)
    with other:
        other.send(b"never read")
        one.send(b"last words", [0])
        one.close()
        with other.recv() as message:
            assert (message.data, len(message)) == (b"last words", 1)
        for _ in range(2):
            with pytest.raises(PeerClosed):
                other.recv()


def test_a_message_above_a_small_send_buffer_goes_in_a_memfd():
    """A packet has at most SO_SNDBUF less 32 bytes, which can be less than a frame."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    one, other = map(Channel, pair)
    with one, other:
        for size in 4000, 20_000, 60_000:
            one.send(b"x" * size)
            assert len(other.recv().data) == size


def test_acknowledged_at_one_end_only_is_a_protocol_error():
    """Otherwise the sender would wait without end for an acknowledgement."""
    pair = socket.socketpair()
    one, other = Channel(pair[0], acknowledged=True), Channel(pair[1])
    with one, other:
        one.settimeout(0)
        with pytest.raises(Timeout):
            one.send(b"x", [0])
        with pytest.raises(ProtocolError, match="one end"):
            other.recv()


@pytest.mark.parametrize("type", ["seqpacket", "stream"])
def test_both_ends_may_send_at_once_in_acknowledged_mode(type):
    """A sender that waits for its acknowledgement reads the messages that arrive meanwhile."""
    one, other = Channel.pair(type, acknowledged=True)
    got = {}

    def talk(name, channel):
        for i in range(10):
            channel.send(b"%d" % i, [0])
        got[name] = []
        for _ in range(10):
            with channel.recv() as message:
                got[name].append((int(message.data), len(message)))

    with one, other:
        threads = [threading.Thread(target=talk, args=item) for item in {"one": one, "other": other}.items()]
        for channel in one, other:
            channel.settimeout(30)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == {name: [(i, 1) for i in range(10)] for name in ("one", "other")}


def test_a_timeout_leaves_the_channel_usable():
    """A withdrawn message does not arrive; messages that are sent afterwards do."""
    one, other = Channel.pair("stream", max_fds=1000)
    with one, other:
        one.settimeout(0)
        sent = 0
        with pytest.raises(Timeout):
            while True:
                one.send(b"%d" % sent + b"x" * 50_000)
                sent += 1
        with pytest.raises(Timeout):
            one.send(b"x" * 500_000, [0] * 600)
        numbers = []
        other.settimeout(0)
        with pytest.raises(Timeout):
            while True:
                numbers.append(int(other.recv().data[:6].rstrip(b"x")))
        one.send(b"after", [0])
        while (message := other.recv()).data != b"after":
            numbers.append(int(message.data[:6].rstrip(b"x")))
        assert len(message) == 1
        message.close()
        # The message whose last frame was sent in part may arrive: half a frame cannot be withdrawn.
        assert numbers in (list(range(sent)), list(range(sent + 1)))


def test_the_peer_is_one_object_that_the_channel_closes():
    """The user need not close its pidfd."""
    one, other = Channel.pair()
    with one, other:
        assert one.peer is one.peer
        assert one.peer.pid == os.getpid()
        pidfd = one.peer.pidfd
    assert pidfd is None or pidfd.closed
    with pytest.raises(fdpass.Closed):
        _ = one.peer


def test_sockets_that_cannot_carry_a_channel_are_refused():
    """The caller still owns the socket that was refused."""
    for kind in socket.SOCK_DGRAM, None:
        pair = socket.socketpair(socket.AF_UNIX, kind) if kind else (socket.socket(), socket.socket())
        for sock in pair:
            with sock, pytest.raises(fdpass.InvalidMessage, match="stream or seqpacket"):
                Channel(sock)
    with pytest.raises(fdpass.InvalidMessage, match="dgram"):
        Channel.pair("dgram")
    with pytest.raises(fdpass.InvalidMessage, match="0 or more"):
        Channel.pair(max_fds=-1)


@pytest.mark.parametrize("acknowledged", [False, True])
def test_threads_that_receive_take_turns(acknowledged, monkeypatch):
    """Each message goes to one thread, and no thread finds an empty inbox, however slow another one is."""
    one, other = Channel.pair(acknowledged=acknowledged)
    got, failed = [], []
    take = other._conversation.take

    def slow_take():
        for _ in range(50):
            os.sched_yield()  # lets the other threads run, if no lock holds them
        return take()

    monkeypatch.setattr(other._conversation, "take", slow_take)

    def receive():
        try:
            for message in other:
                got.append(int(message.data))
        except BaseException as error:
            failed.append(error)

    with one, other:
        threads = [threading.Thread(target=receive) for _ in range(4)]
        for thread in threads:
            thread.start()
        for i in range(300):
            one.send(b"%d" % i)
        one.close()
        for thread in threads:
            thread.join()
    assert failed == []
    assert sorted(got) == list(range(300))


def test_one_thread_may_queue_answers_while_another_looks_at_the_outbox():
    """In acknowledged mode a receiving thread adds to the outbox that a sending thread empties or reads."""
    left, right = socket.socketpair()
    with left, right:
        outbox = Outbox(left, 0)

        def add(count):
            for number in range(count):
                outbox.control(Kind.ACK, number)

        add(5000)  # one look takes long enough for many turns of the other thread
        adding = threading.Thread(target=add, args=(20_000,))
        adding.start()
        try:
            while adding.is_alive():
                assert outbox.control_frames >= 5000
        finally:
            adding.join()
        assert outbox.control_frames == 25_000


def test_a_refused_message_closes_its_descriptor_once_even_if_close_fails():
    """A number that stayed in the list of unwanted ones would be closed again when another file has it."""
    one, other = Channel.pair(max_message=5)
    with one, other:
        one.send(b"too long", [0])
        with call_fails(os, "close", errno.EIO), pytest.raises(MessageTooLarge, match="max_message is 5"):
            other.recv()
        one.send(b"after", [0])
        with other.recv() as message:
            assert len(message) == 1


@pytest.mark.parametrize("bad", [-1, float("nan")])
def test_a_timeout_that_is_negative_or_nan_is_refused(bad):
    one, other = Channel.pair()
    with one, other, pytest.raises(fdpass.InvalidMessage, match="0 or more"):
        one.settimeout(bad)


@pytest.mark.parametrize("text", [b"h", b"hello", b"f", b"fx", b"fd\2"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=["stream", "seqpacket"])
def test_a_peer_of_another_protocol_is_told_by_its_first_bytes(kind, text):
    """It may send fewer bytes than a header has, and wait for an answer; its descriptor is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    r, w = map(Fd, os.pipe())
    with Channel(ours) as channel, theirs, r:
        channel.settimeout(60)
        send_fds(theirs, text, [w], give=True)
        if text == b"f" and kind == socket.SOCK_STREAM:  # the start of a frame: the next byte tells
            theirs.send(b"x")
        with pytest.raises(ProtocolError, match=r"version 2" if text == b"fd\2" else "exactly|does not speak"):
            channel.recv()
        assert os.read(r.fileno(), 1) == b""


@pytest.mark.parametrize("kind", ["seqpacket", "stream"])
def test_a_descriptor_that_is_closed_while_send_waits_is_not_replaced_by_another(kind):
    """Its number can be another file's by then, which is not for this peer."""
    one, other = Channel.pair(kind)
    r, w = map(Fd, os.pipe())
    waits, raised = threading.Event(), []

    def send():
        try:
            one.send(b"secret", [w])
        except Closed as error:
            raised.append(str(error))

    class Watched(type(one._waits)):
        def wait(self, *arguments):
            waits.set()
            return super().wait(*arguments)

    one._waits = Watched()
    with one, other, r:
        one.settimeout(0)
        with pytest.raises(Timeout):
            while True:
                one.send(b"x" * 10_000)
        one.settimeout(None)
        waits.clear()
        thread = threading.Thread(target=send)
        thread.start()
        assert waits.wait(60)
        number = w.fileno()
        w.close()
        with Fd.open("/dev/null") as stranger:
            assert stranger.fileno() == number
            other.settimeout(0)
            with pytest.raises(Timeout):
                while True:
                    assert len(other.recv()) == 0
            thread.join(60)
            assert raised == [f"{w!r} is closed: pass an open descriptor"]
            one.send(b"next")
            other.settimeout(60)
            while other.recv().data != b"next":
                pass


def test_a_task_that_closes_a_descriptor_of_a_send_that_waits_ends_the_send():
    """As with threads: no other file is sent, and the channel goes on."""

    async def main():
        one, other = AsyncChannel.pair()
        raised = []

        async def send():
            try:
                await one.send(b"secret", [w])
            except Closed as error:
                raised.append(str(error))

        r, w = map(Fd, os.pipe())
        async with one, other:
            while True:
                with anyio.move_on_after(0.02) as scope:
                    await one.send(b"x" * 10_000)
                if scope.cancelled_caught:
                    break
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                await anyio.wait_all_tasks_blocked()
                w.close()
                with r, Fd.open("/dev/null"):
                    while not raised:
                        with anyio.move_on_after(0.02):
                            assert len(await other.recv()) == 0
        assert raised == ["<Fd closed> is closed: pass an open descriptor"]

    anyio.run(main)


def test_an_async_recv_looks_twice_before_it_waits():
    """The second time after other tasks have run: under load a message has come meanwhile."""

    async def main():
        one, other = AsyncChannel.pair()
        looked = []
        pull = other._conversation.pull_whole
        other._conversation.pull_whole = lambda flags: looked.append(1) or pull(flags)
        async with one, other, anyio.create_task_group() as tasks:
            tasks.start_soon(other.recv)
            await anyio.wait_all_tasks_blocked()
            assert len(looked) == 2
            await one.send(b"x")

    anyio.run(main)
