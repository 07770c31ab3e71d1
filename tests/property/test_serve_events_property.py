"""`Events` agrees with a simple reading of the HTML standard, however an event stream is cut into parts."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from fdpass.serve.worker.live.events import Events

MARK = b"\xef\xbb\xbf"
ENDS = [b"\n", b"\r", b"\r\n"]
LINES = [
    *(b"data: x", b"data", b"data:", b"datum: x", b"dat", b"data:" + b"x" * 20, b"data : x", b" data: x"),
    *(b"id: 1", b"id:2", b"id:  3", b"id", b"id:", b"id: ", b"id: \0", b"id: 4\0", b"id : 5", b"ids: 6"),
    *(b"event: x", b"retry: 100", b": ping", b":", b"", b"", b"", MARK, MARK + b"id: 7", b"\xef\xbb", b"\xef"),
]
streams = st.lists(
    st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS)) | st.binary(max_size=4), max_size=12
).map(lambda found: b"".join(part if isinstance(part, bytes) else b"".join(part) for part in found))


def lines_of(stream):
    """The lines that have ended, and what has come of the next one."""
    lines, line, index = [], b"", 0
    while index < len(stream):
        byte = stream[index : index + 1]
        index += 1
        if byte == b"\r" and stream[index : index + 1] == b"\n":
            index += 1
        if byte in {b"\r", b"\n"}:
            lines.append(line)
            line = b""
        else:
            line += byte
    return lines, line


def read(stream, last_id=b""):
    """What a client has of a stream: its last id, and whether another one could go on."""
    has_mark = stream.startswith(MARK)
    lines, rest = lines_of(stream.removeprefix(MARK))
    fields = []
    has_unnamed = False
    for line in lines:
        if line == b"":
            new = [value for name, value in fields if name == b"id" and b"\0" not in value]
            if new:
                last_id = new[-1]
            if last_id:
                has_unnamed = False
            elif new or b"data" in dict(fields):
                has_unnamed = True
            fields = []
        elif line[:1] != b":":
            name, _, value = line.partition(b":")
            fields.append((name, value[1:] if value[:1] == b" " else value))
    return last_id, not (rest or fields or has_unnamed or has_mark)


def cut(stream, places):
    """The parts between these places."""
    cuts = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(cuts)]


@given(streams, st.lists(st.integers(0, 1000), max_size=6), st.sampled_from([b"", b"0"]))
@example(b"id: 1\r\rid: 2\r\n\r\n", [7, 8], b"")
@example(b"id: 1\r\n\r\ndata: x\r\n\r\n", [6, 9, 18], b"")
@example(b"\xef\xbb\xbfid: 1\n\n", [1, 2], b"")
@example(b"id: 1\n\nid\n\n", [], b"")
def test_any_cutting_tells_the_last_id_and_the_borders(stream, places, last_id):
    events = Events(last_id)
    sent = b""
    for part in cut(stream, places):
        sent += part
        events.feed(part)
        assert (events.last_id, events.is_resumable) == read(sent, last_id), sent
    for index in range(len(stream)):  # byte by byte
        events = Events(last_id) if index == 0 else events
        events.feed(stream[index : index + 1])
        assert (events.last_id, events.is_resumable) == read(stream[: index + 1], last_id)


@given(st.lists(st.binary(max_size=4).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b"")), max_size=4))
def test_a_comment_between_events_is_no_event(comments):
    events = Events()
    events.feed(b"id: 1\ndata: x\n\n")
    for comment in comments:
        events.feed(b":%b\n\n" % comment)
        assert (events.last_id, events.is_resumable) == (b"1", True)
        events.feed(b":%b" % comment)
        assert not events.is_resumable
        events.feed(b"\r\n")
        assert events.is_resumable


def test_a_long_line_is_not_kept():
    events = Events()
    for _ in range(10):
        events.feed(b"data: " + b"x" * 100_000)
    assert len(events._line) < 10
    events.feed(b"\nid: 8\n\n")
    assert (events.last_id, events.is_resumable) == (b"8", True)
