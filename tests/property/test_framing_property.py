"""`_framing` alone: for any input in any pieces, each message and each descriptor comes out exactly once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdpass._framing import FDS_MAX, FRAME_MAX, HEADER, Assembler, Flag, Kind, Parser, header, split
from fdpass.errors import ProtocolError

messages = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 5, FRAME_MAX, FRAME_MAX + 1, 3 * FRAME_MAX]), st.integers(0, 3) | st.just(600)
    ),
    max_size=6,
)
chunks = st.lists(st.sampled_from([1, 7, 16, 4000, 100_000]), max_size=5).map(lambda sizes: [*sizes, 65_552])


def frames_of(sent):
    """The frames of these messages, as (bytes, descriptors); the descriptors are 0, 1, 2 and so on."""
    following = 0
    for number, (length, count) in enumerate(sent):
        data = bytes([number]) * length
        for piece in split(length, count, 0):
            fds = list(range(following + piece.first_fd, following + piece.last_fd))
            payload = data[piece.start : piece.stop]
            yield header(Kind.MESSAGE, piece.flags, len(fds), len(payload), number) + payload, fds
        following += count


def as_the_kernel_reads(frames, sizes):
    """A stream in reads of these sizes; a read ends after the first frame with descriptors, as the kernel's do."""
    waiting, turn = list(frames), 0
    while waiting:
        room, data, fds = sizes[turn % len(sizes)], b"", []
        turn += 1
        while waiting and room and not fds:
            content, fds = waiting.pop(0)
            data, rest, room = data + content[:room], content[room:], room - len(content[:room])
            if rest:
                waiting.insert(0, (rest, []))
        yield data, fds


@given(sent=messages, sizes=chunks)
@settings(deadline=None)
def test_any_division_into_reads_gives_the_same_messages(sent, sizes):
    parser, assembler, got = Parser(packets=False), Assembler(10**9, 10**9), []
    for data, fds in as_the_kernel_reads(frames_of(sent), sizes):
        for frame in parser.feed(data, fds):
            arrived = assembler.add(frame)
            if arrived is not None:
                got.append(arrived)
    assert [(len(message.data), len(message.fds)) for message in got] == sent
    assert [fd for message in got for fd in message.fds] == list(range(sum(count for _, count in sent)))
    assert all(set(message.data) <= {message.number} for message in got)
    assert parser.idle
    assert assembler.idle
    assert parser.held() == assembler.held() == []


# Often a valid header, often a nearly valid one, and sometimes random bytes.
pieces = st.one_of(
    st.binary(max_size=40),
    st.builds(
        header,
        st.integers(0, 255).map(lambda kind: kind if kind < 6 else 0),
        st.integers(0, 20),
        st.integers(0, 4) | st.just(FDS_MAX + 1),
        st.sampled_from([0, 1, 8, FRAME_MAX, FRAME_MAX + 1]),
        st.integers(0, 2),
    ),
)


@given(
    reads=st.lists(
        st.tuples(st.lists(pieces, max_size=3).map(b"".join), st.integers(0, 5), st.booleans()), max_size=20
    ),
    packets=st.booleans(),
    bounds=st.tuples(st.sampled_from([0, 3, 10**6]), st.sampled_from([0, 3, 1000])),
)
@settings(max_examples=300, deadline=None)
def test_each_descriptor_of_any_input_comes_out_exactly_once(reads, packets, bounds):
    """In a message, as unwanted, or from held()."""
    parser, assembler, fed, out = Parser(packets=packets), Assembler(*bounds), 0, []
    try:
        for data, count, dropped in reads:
            fds = range(fed, fed + count)
            fed += count
            for frame in parser.feed(data, fds, dropped=dropped):
                if frame.kind != Kind.MESSAGE:
                    assert frame.fds == []
                    continue
                arrived = assembler.add(frame)
                out += assembler.unwanted
                assembler.unwanted.clear()
                if arrived is not None:
                    assert len(arrived.data) <= bounds[0]
                    assert len(arrived.fds) <= bounds[1] + (arrived.memfd is not None)
                    out += arrived.fds
    except ProtocolError:
        pass
    out += parser.held() + assembler.held()
    assert sorted(out) == list(range(fed))


def parse(data, fds=(), *, packets=False, dropped=False):
    return list(Parser(packets=packets).feed(data, fds, dropped=dropped))


@pytest.mark.parametrize(
    ("data", "fds", "words"),
    [
        (b"GET / HTTP/1.1\r\n", (), "does not speak"),
        (HEADER.pack(b"fd", 9, 0, 0, 0, 0, 0), (), "version 9"),
        (header(5, 0, 0, 0, 0), (), "header is not valid"),
        (header(Kind.MESSAGE, 1 << 15, 0, 0, 0), (), "header is not valid"),
        (header(Kind.MESSAGE, 0, 0, FRAME_MAX + 1, 0), (), "header is not valid"),
        (header(Kind.MESSAGE, 0, FDS_MAX + 1, 0, 0), (), "header is not valid"),
        (header(Kind.ACK, 0, 1, 0, 0), (7,), "control frame"),
        (header(Kind.MESSAGE, Flag.MEMFD, 0, 8, 0) + bytes(8), (), "memfd frame"),
        (header(Kind.MESSAGE, 0, 2, 0, 0), (7,), "announced 2"),
    ],
)
def test_an_invalid_frame_is_a_protocol_error(data, fds, words):
    with pytest.raises(ProtocolError, match=words):
        parse(data, fds)


@pytest.mark.parametrize("data", [header(0, 0, 0, 1, 0), header(0, 0, 0, 0, 0) + b"x", b"fd"])
def test_a_packet_is_exactly_one_frame(data):
    with pytest.raises(ProtocolError, match="exactly one frame"):
        parse(data, packets=True)


def test_descriptors_that_the_kernel_dropped_are_counted():
    """The frame has their number, and the descriptors of later frames are assigned correctly."""
    parser = Parser(packets=False)
    (first,) = parser.feed(header(0, 0, 3, 0, 1), [10], dropped=True)
    (second,) = parser.feed(header(0, 0, 1, 0, 2), [11])
    assert (first.fds, first.lost) == ([10], 2)
    assert (second.fds, second.lost) == ([11], 0)


def test_a_message_within_another_is_a_protocol_error():
    assembler = Assembler(100, 100)
    (begun,) = parse(header(0, Flag.MORE, 1, 0, 1), [5])
    (other,) = parse(header(0, 0, 1, 0, 2), [6])
    assembler.add(begun)
    with pytest.raises(ProtocolError, match="within another"):
        assembler.add(other)
    assert sorted(assembler.held()) == [5, 6]


def test_an_aborted_message_leaves_only_unwanted_descriptors():
    assembler = Assembler(100, 100)
    (begun,) = parse(header(0, Flag.MORE, 1, 1, 1) + b"x", [5])
    (abort,) = parse(header(0, Flag.ABORT, 0, 0, 1))
    assert assembler.add(begun) is None
    assert assembler.add(abort) is None
    assert assembler.idle
    assert assembler.unwanted == [5]
