"""A hostile peer sends random bytes, false headers and floods: no crash, no leak, and bounded memory."""

import array
import errno
import os
import random
import socket
import tracemalloc
from contextlib import contextmanager

import anyio
import pytest

from fdpass import AsyncChannel, Channel, FdpassError, PeerClosed, ProtocolError, recv_fds, share
from fdpass._framing import HEADER, SIZE, Flag, Kind, header

from ._channels import TYPES, either_way, every_type

HELD_MAX = 4 * 253  # one message, descriptors that wait for their frames (2 * 253), and one recvmsg
MEMORY_MAX = 2 * 2**20
MESSAGE_MAX = 2**18


def count_fds():
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def victim(kind, **options):
    """The raw socket of an attacker, and the channel at its other end."""
    attacker, sock = socket.socketpair(socket.AF_UNIX, TYPES[kind])
    attacker.setblocking(False)
    with attacker, Channel(sock, **{"max_message": MESSAGE_MAX, **options}) as channel:
        channel.settimeout(0)
        yield attacker, channel


def rights(fds):
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


def drained(channel, highest=0):
    """Receive until the socket is empty or the channel ends: the most descriptors that were open meanwhile."""
    for _ in range(100_000):
        try:
            with channel.recv():
                highest = max(highest, count_fds())
        except (TimeoutError, PeerClosed, ProtocolError):
            return max(highest, count_fds())
        except FdpassError:
            highest = max(highest, count_fds())
    raise AssertionError("the channel had more than 100,000 messages")


def attack(attacker, channel, packets):
    """Send all packets; the victim reads when the socket is full, and at the end. The most open descriptors."""
    highest = 0
    for data, fds in packets:
        for _ in range(2):
            try:
                attacker.sendmsg([data], rights(fds))
                break
            except PermissionError:  # with max_fds=0 the kernel itself refuses descriptors
                break
            except ConnectionError:
                return highest
            except OSError as error:  # no room; or too many descriptors in flight, of a user who is not root
                assert error.errno in {errno.EAGAIN, errno.ETOOMANYREFS}
                highest = drained(channel, highest)
    return drained(channel, highest)


@contextmanager
def bounded_memory():
    """Check that the memory in use stays below MEMORY_MAX."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY_MAX
    finally:
        tracemalloc.stop()


def mutated(chance):
    """A nearly valid frame, which gets further than random bytes do."""
    fds = [0] * chance.choice([0, 0, 1, 2, 253])
    payload = chance.randbytes(chance.choice([0, 1, 8, 100, 3000]))
    flags = chance.choice([0, 0, Flag.MORE, Flag.ACKNOWLEDGED, Flag.MEMFD, Flag.ABORT, chance.randrange(16)])
    count = len(fds) + chance.choice([0, 0, 0, 0, 1, -1]) * chance.randrange(2)
    data = bytearray(
        header(chance.choice([0, 0, 0, *Kind]), flags, max(0, count), len(payload), chance.randrange(3)) + payload
    )
    if chance.random() < 0.2:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    return bytes(data) or b"x", fds


@every_type
@either_way
def test_a_million_random_bytes_leave_nothing_open(kind, acknowledged):
    """Random bytes, with descriptors, are sent to one channel after another."""
    chance = random.Random(f"{kind} {acknowledged}")
    before, sent = count_fds(), 0
    with bounded_memory():
        while sent < 1_000_000:
            with victim(kind, acknowledged=acknowledged) as (attacker, channel):
                sizes = chance.choices(range(1, 4000), k=5)
                packets = [(chance.randbytes(size), [0] * chance.choice([0, 1, 253])) for size in sizes]
                sent += sum(sizes)
                assert attack(attacker, channel, packets) < before + HELD_MAX
            assert count_fds() == before


@every_type
@either_way
def test_nearly_valid_frames_leave_nothing_open(kind, acknowledged):
    """Mutated frames reach every state of the parser."""
    chance = random.Random(f"frames {kind} {acknowledged}")
    before = count_fds()
    with bounded_memory():
        for _ in range(700):
            options = {"acknowledged": acknowledged, "max_message": 5000, "max_fds": chance.choice([0, 3, 253])}
            with victim(kind, **options) as (attacker, channel):
                packets = [mutated(chance) for _ in range(chance.randint(1, 12))]
                assert attack(attacker, channel, packets) < before + HELD_MAX
            assert count_fds() == before


@every_type
def test_recv_fds_closes_every_surplus_of_a_million_random_bytes(kind):
    """recv_fds accepts any bytes."""
    chance = random.Random(kind)
    attacker, sock = socket.socketpair(socket.AF_UNIX, TYPES[kind])
    before, left = count_fds(), 1_000_000
    with attacker, sock, bounded_memory():
        while left > 0:
            data = chance.randbytes(chance.randint(1, 5000))
            left -= len(data)
            attacker.sendmsg([data], rights([0] * chance.choice([0, 1, 253])))
            try:
                recv_fds(sock, 6000, max_fds=chance.choice([0, 1, 253])).close()
            except FdpassError as error:
                for fd in error.fds:
                    fd.close()
            assert count_fds() == before


def whole(flags=0, count=0, payload=b"", number=1, kind=Kind.MESSAGE):
    return header(kind, flags, count, len(payload), number) + payload


FLOODS = {
    "too many descriptors in one message": lambda ack: (whole(ack | Flag.MORE, 253), [0] * 253),
    "whole messages of 253": lambda ack: (whole(ack, 253), [0] * 253),
    "empty frames of a message without end": lambda ack: (whole(ack | Flag.MORE), []),
    "large frames of a message without end": lambda ack: (whole(ack | Flag.MORE, 0, bytes(30_000)), []),
    "one byte of a frame, and descriptors": lambda ack: (whole(ack, 253, bytes(60_000))[:1], [0] * 253),
    "acknowledgements of nothing": lambda ack: (whole(0, kind=Kind.ACK), []),
    "requests for messages that were never sent": lambda ack: (whole(0, kind=Kind.RETRY), []),
    "refusals of requests that were never sent": lambda ack: (whole(0, kind=Kind.GONE), []),
    "empty messages": lambda ack: (whole(ack), []),
    "messages begun and aborted": lambda ack: (whole(ack | Flag.MORE, 3) + whole(ack | Flag.ABORT), [0] * 3),
}


@every_type
@either_way
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_frames_is_bounded(kind, acknowledged, flood):
    """The attacker sends the same frame again and again, and never reads an answer."""
    packet = FLOODS[flood](Flag.ACKNOWLEDGED if acknowledged else 0)
    before = count_fds()
    with victim(kind, acknowledged=acknowledged) as (attacker, channel), bounded_memory():
        times = 16_000 if len(packet[0]) == HEADER.size and not packet[1] else 300
        assert attack(attacker, channel, [packet] * times) < before + HELD_MAX
    assert count_fds() == before


@every_type
@pytest.mark.parametrize(
    "flood", ["requests for messages that were never sent", "refusals of requests that were never sent"]
)
def test_a_flood_at_a_sender_that_waits_for_its_acknowledgement_is_bounded(kind, flood):
    """The sender reads every frame, and must not keep an answer to each."""
    packet, _ = FLOODS[flood](0)
    with victim(kind, acknowledged=True) as (attacker, channel), bounded_memory():
        for _ in range(40):
            try:
                while True:
                    attacker.send(packet)
            except (BlockingIOError, ConnectionError):
                pass
            with pytest.raises(FdpassError):
                channel.send(b"x")
            if channel.closed:
                break


def sealed(size):
    return share(bytes(size)).take()


def unsealed(size):
    fd = os.memfd_create("open", os.MFD_ALLOW_SEALING)
    os.truncate(fd, size)
    return fd


@every_type
@pytest.mark.parametrize(
    ("make", "announced"),
    [
        (lambda: unsealed(100), 100),
        (lambda: sealed(100), 101),
        (lambda: sealed(100), 2**64 - 1),
        (lambda: sealed(100), 99),
        (lambda: os.open("/dev/zero", os.O_RDONLY), 100),
        (lambda: os.eventfd(0), 8),
        (lambda: socket.socket().detach(), 0),
        (lambda: os.open(__file__, os.O_PATH), 0),
    ],
    ids=["unsealed", "too small", "huge", "too large", "device", "eventfd", "socket", "path"],
)
def test_bytes_are_read_only_from_sealed_memory_of_the_announced_size(kind, make, announced):
    """All other descriptors are refused and closed."""
    fd = make()
    with victim(kind) as (attacker, channel):
        attacker.sendmsg([whole(Flag.MEMFD, 3, SIZE.pack(announced))], rights([fd, 0, 0]))
        os.close(fd)
        with pytest.raises(FdpassError):
            channel.recv()


@every_type
def test_a_peer_that_speaks_another_protocol_ends_the_channel(kind):
    """The first bytes show it, and the error names the remedy."""
    with victim(kind) as (attacker, channel):
        attacker.sendmsg([b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"], rights([0, 0]))
        with pytest.raises(ProtocolError, match="does not speak"):
            channel.recv()
        with pytest.raises(FdpassError):
            channel.recv()


@every_type
def test_a_plain_message_on_an_acknowledged_channel_is_a_protocol_error(kind):
    with victim(kind, acknowledged=True) as (attacker, channel):
        attacker.sendmsg([whole(0, 2)], rights([0, 0]))
        with pytest.raises(ProtocolError, match="one end"):
            channel.recv()


def test_a_channel_with_so_passcred_receives_credentials_and_253_descriptors():
    """The kernel puts the credentials before the descriptors."""
    left, right = Channel.pair()
    with left, right:
        with socket.socket(fileno=os.dup(right.fileno())) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        left.send(b"x", [0] * 253)
        with right.recv() as message:
            assert len(message) == 253
            assert message.credentials.pid == os.getpid()


def test_an_empty_packet_ends_the_channel():
    """recvmsg(2) returns the same for an empty packet and for the end of file; no channel sends one."""
    with victim("seqpacket") as (attacker, channel):
        attacker.send(b"")
        with pytest.raises(PeerClosed):
            channel.recv()


@every_type
def test_after_a_protocol_error_valid_frames_are_not_read(kind):
    """The channel cannot know where a frame starts."""
    good = whole(payload=b"good")
    with victim(kind) as (attacker, channel):
        attacker.send(b"X" * 20)
        with pytest.raises(ProtocolError):
            channel.recv()
        attacker.send(good)
        with pytest.raises(ProtocolError):
            channel.recv()

    async def main():
        attacker, sock = socket.socketpair(socket.AF_UNIX, TYPES[kind])
        with attacker:
            async with AsyncChannel(sock) as channel:
                attacker.send(b"X" * 20)
                with pytest.raises(ProtocolError):
                    await channel.recv()
                attacker.send(good)
                with pytest.raises(ProtocolError):
                    await channel.recv()

    anyio.run(main)
