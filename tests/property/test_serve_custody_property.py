"""Any requests, in any pieces, to any sockets, with any deaths: nothing is lost, repeated or confused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("httptools")

from ._requests import request
from ._world import World

KINDS = ["plain", "plain", "big", "stream", "slow", "tail", "after", "early"]
EXPECT = ["", "", "", "Expect: 100-continue\r\n"]


@st.composite
def conversations(draw):
    """Requests of one client, one after the other."""
    found = []
    for name in range(draw(st.integers(1, 5))):
        method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]))
        kind = draw(st.sampled_from(KINDS))
        body, pieces, headers = None, 0, ""
        if method in {"POST", "PUT"}:
            body = draw(
                st.sampled_from([b"", b"a", b"0123456789" * 5, b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"z" * 700])
            )
            pieces = draw(st.sampled_from([0, 0, 3, 50]))
            headers = draw(st.sampled_from(EXPECT))
        waits = draw(st.booleans())
        found.append(request(name, kind, method, body, pieces=pieces, headers=headers, waits=waits))
    if draw(st.integers(0, 5)) == 0:
        found[-1] = request(len(found) - 1, draw(st.sampled_from(["close", "raise"])), waits=draw(st.booleans()))
    return found


places = st.fixed_dictionaries(
    {
        "room": st.sampled_from([40, 150, 10_000]),
        "most": st.sampled_from([9, 30, 200, 10_000]),
        "unix": st.booleans(),
        "buffers": st.integers(0, 2),
        "replay": st.sampled_from(["none", "safe", "idempotent"]),
    }
)
fates = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**16),
        "deaths": st.frozensets(st.integers(1, 150), max_size=5),
        "leaves": st.frozensets(st.integers(1, 60), max_size=2),
        "stillborn": st.frozensets(st.integers(2, 6), max_size=2),
    }
)


@settings(max_examples=300, deadline=None)
@given(conversations(), fates, places)
def test_a_client_gets_every_answer_or_up_to_one_that_was_refused_or_cut(sent, fate, place):
    World(sent, **fate, **place).run()
