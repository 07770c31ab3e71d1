"""`Requests`: each signal is acted on once, by whichever dispatcher; a stop is begun again by each."""

import signal

from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.requests import REQUESTS, Requests


def dispatcher(estate):
    """A new dispatcher's requests, and what it has done."""
    done = []
    return Requests(estate, {number: lambda number=number: done.append(number) for number in REQUESTS}), done


def test_a_request_is_acted_on_once_whoever_comes_to_it():
    estate = Estate.private(1)
    first, done = dispatcher(estate)
    estate.head[Head.RELOADS] += 2
    first.act()
    first.act()
    assert done == [signal.SIGHUP] * 2
    estate.head[Head.MORE] += 1
    second, done = dispatcher(estate)
    second.act_again()
    assert done == [signal.SIGTTIN]


def test_each_dispatcher_stops_as_often_as_the_operator_has_said():
    estate = Estate.private(1)
    estate.head[Head.STOPS] += 2
    for _ in range(2):
        requests, done = dispatcher(estate)
        requests.act_again()
        assert len(done) == 2
        assert all(REQUESTS[number] == Head.STOPS for number in done)
