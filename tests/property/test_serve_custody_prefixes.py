"""A worker dies after any store, any read and any write: what is decided then is right, in every scenario."""

import pytest

pytest.importorskip("httptools")

from fdpass.serve.dispatcher.recovery import Action

from ._requests import Request, request
from ._world import World

ONE_BY_ONE = {"waits": True}
SCENARIOS = {
    "get": [request(0)],
    "head": [request(0, method="HEAD")],
    "post": [request(0, method="POST", body=b"abcdef" * 10)],
    "empty post": [request(0, method="POST", body=b"")],
    "put": [request(0, method="PUT", body=b"abcdef")],
    "chunked": [request(0, method="POST", body=b"0123456789" * 9, pieces=7)],
    "pipelined": [request(0), request(1, method="POST", body=b"xyz"), request(2), request(3, method="DELETE")],
    "keep-alive": [
        request(0),
        request(1, method="POST", body=b"xyz" * 20, **ONE_BY_ONE),
        request(2, method="POST", body=b"xyz" * 20, pieces=9, **ONE_BY_ONE),
        request(3, **ONE_BY_ONE),
        request(4, "stream", **ONE_BY_ONE),
    ],
    "larger than the buffer": [
        request(0, method="POST", body=b"0123456789" * 80),
        request(1),
        request(2, **ONE_BY_ONE),
    ],
    "large and chunked": [request(0, method="PUT", body=b"0123456789" * 80, pieces=50), request(1, **ONE_BY_ONE)],
    "answered early": [request(0, "early", "POST", b"abcdef" * 10), request(1), request(2, "stream")],
    "answered early, one by one": [
        request(0, "early", "POST", b"abcdef" * 10, pieces=8),
        request(1, **ONE_BY_ONE),
        request(2, "early", "PUT", b"abcdef" * 100, **ONE_BY_ONE),
        request(3, method="POST", body=b"last", **ONE_BY_ONE),
    ],
    "expect": [
        request(0, method="POST", body=b"abc" * 20, headers="Expect: 100-continue\r\n"),
        request(1, **ONE_BY_ONE),
    ],
    "expect, answered early": [
        request(0, "early", "POST", b"abc" * 20, headers="Expect: 100-continue\r\n"),
        request(1, **ONE_BY_ONE),
    ],
    "http 1.0": [request(0), request(1, version="1.0")],
    "connection: close": [request(0), request(1, headers="Connection: close\r\n"), request(2)],
    "closed by the application": [request(0, "close", "POST", b"abc"), request(1)],
    "zeros": [
        request(0, method="POST", body=b"\0" * 90),
        request(1, method="PUT", body=b"a\0b\0", **ONE_BY_ONE),
        request(2, **ONE_BY_ONE),
    ],
    "streaming": [request(0, "stream"), request(1, "slow", "POST", b"abc"), request(2, "stream", "POST", b"abc")],
    "a response that waits for its client": [
        request(0, "big"),
        request(1, "big", "POST", b"abc"),
        request(2, "big"),
    ],
    "an end that is empty": [request(0, "tail"), request(1, "tail", "POST", b"abc"), request(2)],
    "an application that goes on": [request(0, "after"), request(1, "after", "POST", b"abc"), request(2)],
    "an application that fails": [request(0), request(1, "raise")],
    "an unsafe one that fails": [request(0), request(1, "raise", "POST", b"abc")],
    "upgrade": [request(0), request(1, "upgrade", headers="Upgrade: websocket\r\nConnection: Upgrade\r\n")],
    "upgrade not taken": [
        request(0, "odd", headers="Upgrade: h2c\r\nConnection: Upgrade\r\n"),
        request(1, **ONE_BY_ONE),
    ],
    "garbage": [Request("garbage", "", b"\x01 garbage\r\n\r\n")],
}
PLACES = {
    "at once": {},
    "in pieces": {"most": 9, "room": 40},
    "byte by byte": {"most": 1},
    "slow client": {"room": 30, "most": 30},
    "unix": {"unix": True},
    "unix and slow": {"unix": True, "room": 30, "most": 25},
    "one buffer": {"buffers": 1, "most": 50},
    "no buffer": {"buffers": 0, "most": 50},
    "no buffer, unix": {"buffers": 0, "most": 50, "unix": True},
    "urgent bytes": {"most": 50, "ahead": 30},
    "one urgent byte": {"most": 50, "ahead": 1},
    "a late counter": {"most": 50, "ahead": -7},
}


def fresh(scenario):
    return [Request(one.kind, one.method, one.data, one.waits) for one in SCENARIOS[scenario]]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_moment_of_a_life_without_deaths_has_a_right_outcome(scenario, place):
    for seed in range(2):
        World(fresh(scenario), seed, **PLACES[place]).run()


@pytest.mark.parametrize("place", ["at once", "slow client", "unix", "one urgent byte"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_after_a_death_at_each_moment_the_next_worker_goes_on_rightly(scenario, place):
    """And what the client has by the end is every answer, or up to one that was refused or cut."""
    whole = World(fresh(scenario), **PLACES[place]).run()
    for step in range(1, whole.steps + 1):
        World(fresh(scenario), deaths={step}, **PLACES[place]).run()


@pytest.mark.parametrize("unix", [False, True])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_worker_that_dies_before_it_has_begun_with_what_it_was_handed_costs_nothing(scenario, unix):
    """Nor do two of them; the bytes of the request are the dispatcher's yet."""
    whole = World(fresh(scenario), unix=unix).run()
    for step in range(1, whole.steps + 1):
        last = World(fresh(scenario), deaths={step}, unix=unix).run().outcome
        world = World(fresh(scenario), deaths={step}, stillborn={2, 3}, unix=unix).run()
        if last is Action.REPLAY:
            assert world.workers == 4
            assert world.outcome is Action.REPLAY


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_deaths_of_two_workers_repeat_no_request_twice(scenario):
    """The second dies soon after the first, while it has not much more than the bytes to repeat."""
    whole = World(fresh(scenario)).run()
    for step in range(1, whole.steps + 1):
        for later in (1, 5, 9):
            World(fresh(scenario), deaths={step, step + later}, replay="idempotent").run()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_retiring_worker_gives_a_connection_back_at_the_right_moment(scenario, place):
    """Whatever it was doing when it was told to leave, the client gets every answer."""
    whole = World(fresh(scenario), **PLACES[place]).run()
    for move in range(1, whole.moves, 1 + whole.moves // 10):
        World(fresh(scenario), leaves={move}, **PLACES[place]).run()
