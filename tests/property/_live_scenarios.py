"""The talks and feeds of the custody tests of open streams, and the places at which they happen."""

from ._live_feed import Feed
from ._live_judge import MODES
from ._live_talk import Message, Talk

LAST = Message(waits=True)
TALKS = {
    "one": {"messages": [Message()]},
    "one by one": {"messages": [Message(), LAST]},
    "pipelined": {"messages": [Message(), Message(), Message()]},
    "fragments": {"messages": [Message(20, fragments=3), LAST]},
    "pings": {"messages": [Message(20, fragments=2, pings=1), Message(pings=1)]},
    "filling a buffer": {"messages": [Message(300), Message(300), Message(30)]},
    "larger than a buffer": {"messages": [Message(700), LAST]},
    "zeros": {"messages": [Message(30, key=b"xxxx"), LAST]},
    "two answers": {"messages": [Message(), LAST], "does": "two"},
    "a slow application": {"messages": [Message(), Message()], "does": "slow"},
    "no answers": {"messages": [Message(), Message()], "does": "quiet"},
    "held": {"messages": [Message(), Message(), Message()], "does": "holds"},
    "the client closes": {"messages": [Message(), LAST], "closes": True},
    "the application closes": {"messages": [Message(), LAST], "does": "closes"},
    "rejected when resumed": {"messages": [Message(), LAST], "does": "rejects"},
    "failing when resumed": {"messages": [Message(), LAST], "does": "raises"},
    "another subprotocol when resumed": {"messages": [Message(), LAST], "does": "other"},
}
FEEDS = {
    "with ids": {},
    "ending": {"ends": True},
    "in halves": {"parts": 2},
    "two in a chunk": {"count": 4, "together": 2},
    "without ids": {"ids": False},
    "late ids": {"ids": "late"},
    "comments": {"comments": True},
    "401 when resumed": {"otherwise": "401"},
    "another type when resumed": {"otherwise": "plain"},
    "another request behind it": {"count": 2, "ends": True, "more": "waits"},
    "another request pipelined": {"count": 2, "ends": True, "more": "pipelined"},
    "slow": {"turns": 3},
}
PLACES = {
    "at once": {},
    "in pieces": {"most": 7},
    "slow client": {"room": 30, "most": 30},
    "unix": {"unix": True},
    "unix and slow": {"unix": True, "room": 30, "most": 25},
    "no buffer": {"buffers": 0},
}


def streams():
    """The names of all."""
    talks = [f"{name}, {mode}" for name in TALKS for mode in MODES if may_have(name, mode)]
    return [*talks, *(f"feed {name}" for name in FEEDS)]


def may_have(name, mode):
    """A message that is not answered has no next message to be committed with; and what is held has no commits."""
    does = TALKS[name].get("does")
    return not (does == "quiet" and mode == "with_next") and not (
        does == "holds" and mode in {"with_next", "commit"}
    )


def fresh(name):
    """A client and its application."""
    if name.startswith("feed "):
        return Feed(**FEEDS[name.removeprefix("feed ")])
    talk, _, mode = name.rpartition(", ")
    return Talk(mode, **TALKS[talk])
