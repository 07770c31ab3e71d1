"""Any talks and feeds, in any pieces, to any sockets, with any deaths and moves: what each mode promises holds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("httptools")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

from ._live_feed import Feed
from ._live_judge import MODES
from ._live_talk import Message, Talk
from ._live_world import LiveWorld


@st.composite
def talks(draw):
    """A client's messages, and what answers them."""
    does = draw(st.sampled_from(["echo", "echo", "quiet", "two", "slow", "holds", "closes"]))
    mode = draw(st.sampled_from(MODES))
    if (does == "quiet" and mode == "with_next") or (does == "holds" and mode in {"with_next", "commit"}):
        mode = "redeliver"
    found = []
    for _ in range(draw(st.integers(0, 5))):
        size = draw(st.sampled_from([3, 3, 20, 130, 300, 700]))
        waits = does != "quiet" and draw(st.booleans())
        found.append(Message(size, draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(0, 1)), waits))
    return Talk(mode, found, does=does, closes=draw(st.booleans()) and does != "closes")


@st.composite
def feeds(draw):
    """A client's event stream."""
    ends = draw(st.booleans())
    return Feed(
        draw(st.integers(0, 5)),
        parts=draw(st.sampled_from([1, 1, 2])),
        together=draw(st.sampled_from([1, 1, 2])),
        ids=draw(st.sampled_from([True, True, True, False, "late"])),
        comments=draw(st.booleans()),
        ends=ends,
        otherwise=draw(st.sampled_from(["", "", "", "401", "plain"])),
        more=draw(st.sampled_from(["", "waits", "pipelined"])) if ends else "",
        turns=draw(st.integers(0, 3)),
    )


places = st.fixed_dictionaries(
    {
        "room": st.sampled_from([40, 150, 10_000]),
        "most": st.sampled_from([9, 30, 200, 10_000]),
        "unix": st.booleans(),
        "buffers": st.integers(0, 2),
    }
)
fates = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**16),
        "deaths": st.frozensets(st.integers(1, 150), max_size=5),
        "leaves": st.frozensets(st.integers(1, 60), max_size=3),
        "stillborn": st.frozensets(st.integers(2, 6), max_size=2),
    }
)


@settings(max_examples=100, deadline=None)
@given(talks(), fates, places)
def test_a_websocket_goes_on_or_its_client_is_told(talk, fate, place):
    LiveWorld(talk, **fate, **place).run()


@settings(max_examples=60, deadline=None)
@given(feeds(), fates, places)
def test_an_event_stream_goes_on_or_its_client_is_told(feed, fate, place):
    LiveWorld(feed, **fate, **place).run()
