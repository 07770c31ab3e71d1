"""`Frames` against the parser of the package websockets: the same ends of messages, in any pieces."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fdpass.serve.worker.live.frames import Frames, ends_with_close

websockets = pytest.importorskip("websockets")

from websockets.frames import Frame, Opcode  # noqa: E402 - after the check that it is installed
from websockets.protocol import OPEN  # noqa: E402 - likewise
from websockets.server import ServerProtocol  # noqa: E402 - likewise

CONTROL = st.builds(
    Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125), st.just(True)
).map(lambda frame: [frame])
DATA = st.one_of(st.binary(max_size=200), st.sampled_from([126, 127, 65535, 65536]).map(bytes))


@st.composite
def messages(draw):
    """The frames of one message, perhaps with control frames between its fragments."""
    count = draw(st.integers(1, 4))
    frames = []
    for index in range(count):
        opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY])) if not index else Opcode.CONT
        data = draw(DATA if opcode is Opcode.BINARY else DATA.map(lambda data: data.hex().encode()))
        frames.append(Frame(opcode, data, index == count - 1))
        if draw(st.booleans()):
            frames += draw(CONTROL)
    return frames


STREAMS = st.lists(st.one_of(CONTROL, messages()), max_size=6).map(lambda lists: [*itertools.chain(*lists)])


def ends_of(stream):
    """Where the package's own parser has received whole messages, and where it has nothing in progress."""
    protocol = ServerProtocol(state=OPEN, max_size=None)
    ends, borders, fragmented = [], [0], False
    for position in range(1, len(stream) + 1):
        protocol.receive_data(stream[position - 1 : position])
        for frame in protocol.events_received():
            if frame.opcode not in {Opcode.PING, Opcode.PONG, Opcode.CLOSE}:
                fragmented = not frame.fin
                if frame.fin:
                    ends.append(position)
            if not fragmented and frame.opcode is not Opcode.CLOSE:
                borders.append(position)
    assert protocol.parser_exc is None
    return ends, borders


def cut(data, stream):
    """The stream in pieces."""
    pieces, start = [], 0
    while start < len(stream):
        size = data.draw(st.one_of(st.integers(1, 8), st.integers(1, 70_000)))
        pieces.append(stream[start : start + size])
        start += size
    return pieces


@given(STREAMS, st.booleans(), st.data())
def test_messages_end_where_the_packages_parser_finds_their_ends(frames, closes, data):
    if closes:
        frames = [*frames, Frame(Opcode.CLOSE, b"\x03\xe8")]
    stream = b"".join(frame.serialize(mask=True) for frame in frames)
    if len(stream) > 3000:
        stream_ends, borders = None, None  # byte by byte, the package takes too long
    else:
        stream_ends, borders = ends_of(stream)
    found, position = Frames(1000), 1000
    for piece in cut(data, stream):
        position += len(piece)
        found.feed(piece, position)
        if borders is not None:
            assert found.border - 1000 == max(each for each in borders if each <= position - 1000)
    whole = Frames(1000)
    whole.feed(stream, 1000 + len(stream))
    assert found.ends == whole.ends
    assert found.border == whole.border
    if stream_ends is not None:
        assert [end - 1000 for end in found.ends] == stream_ends


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 1000, 65535, 65536, 100_000])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_one_message_in_one_piece(size, opcode):
    data = Frame(opcode, bytes(size)).serialize(mask=True)
    frames = Frames(7)
    for count in range(1, 4):
        frames.feed(data, 7 + count * len(data))
        assert (frames.ends[-1], len(frames.ends)) == (frames.border, count)
        assert frames.border == 7 + count * len(data)


def test_nothing_counts_behind_a_close_frame():
    """Its answer ends the connection, so another worker has to see it if this one dies before."""
    close = Frame(Opcode.CLOSE, b"").serialize(mask=True)
    text = Frame(Opcode.TEXT, b"text").serialize(mask=True)
    frames = Frames(0)
    frames.feed(text + close[:3], len(text) + 3)
    frames.feed(close[3:] + text, len(text + close + text))
    frames.feed(text, len(text + close + text + text))
    assert (frames.ends, frames.border) == ([len(text)], len(text))


@pytest.mark.parametrize(
    ("frames", "closes"),
    [
        ([(Opcode.CLOSE, b"\x03\xe8")], True),
        ([(Opcode.PONG, b"one"), (Opcode.CLOSE, b"")], True),
        ([(Opcode.PONG, b""), (Opcode.PING, b"x" * 125), (Opcode.CLOSE, b"\x03\xe8bye")], True),
        ([(Opcode.PONG, b"\x88\x00")], False),
        ([(Opcode.TEXT, b"\x88\x00")], False),
        ([(Opcode.PONG, b"one"), (Opcode.BINARY, b"\x88")], False),
    ],
)
def test_a_close_frame_among_frames_of_the_server(frames, closes):
    data = b"".join(Frame(*each).serialize(mask=False) for each in frames)
    assert ends_with_close(data) == closes
