"""Connections that wait without a protocol, and the timers that end them."""

import asyncio
import contextlib
import socket
from unittest import mock

import pytest

from fdpass.serve.worker.parking import Parking
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.timeouts import Timeouts


class Place:
    """A parking with so many connections; what was served, closed, and given back."""

    def __init__(self, count, seconds):
        loop = asyncio.get_running_loop()
        self.poller = Poller(loop)
        self.served, self.closed, self.clients, self.kept = [], [], [], []
        self.parking = Parking(self.poller, seconds, self.served.append)
        for slot in range(count):
            ours, theirs = socket.socketpair()
            self.clients.append(theirs)
            self.kept.append(ours.dup())  # as the dispatcher does
            self.parking.add(PassedSocket(ours.detach(), slot, self.closed.append))

    @property
    def ended(self):
        return {passed.slot: passed.returned for passed in self.closed}

    def close(self):
        for one in (*self.clients, *self.kept, *self.served):
            one.close()
        assert not self.poller._calls
        self.poller.close()


def parked(main, count=3, seconds=60.0):
    """Run ``main(place)``."""

    async def whole():
        with contextlib.closing(Place(count, seconds)) as place:
            await asyncio.wait_for(main(place), 30)

    asyncio.run(whole())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_one_of_which_something_comes_is_served_and_the_others_wait_on():
    async def main(place):
        place.clients[1].send(b"GET")
        await until(lambda: place.served)
        assert [passed.slot for passed in place.served] == [1]
        assert place.served[0].recv(10) == b"GET"  # nobody has read it yet
        place.clients[2].close()  # the end has to be read too
        await until(lambda: len(place.served) == 2)
        assert place.closed == []
        place.parking.end()

    parked(main)


def test_one_that_is_idle_for_too_long_is_closed():
    async def main(place):
        place.clients[0].send(b"GET")
        await until(lambda: len(place.closed) == 2)
        assert place.ended == {1: False, 2: False}
        assert [passed.slot for passed in place.served] == [0]

    parked(main, seconds=0.05)


def test_a_worker_that_retires_gives_all_back():
    async def main(place):
        place.clients[0].send(b"GET")
        place.parking.give_back()
        assert place.ended == {0: True, 1: True, 2: True}
        assert place.clients[1].send(b"still open") == 10

    parked(main)


def test_at_the_end_those_that_have_asked_are_served():
    async def main(place):
        place.clients[2].send(b"GET")
        place.parking.end()
        assert place.ended == {0: False, 1: False}
        assert [passed.slot for passed in place.served] == [2]

    parked(main)


def test_if_the_kernel_watches_no_more_it_is_closed(caplog):
    async def main(place):
        ours, theirs = socket.socketpair()
        place.clients.append(theirs)
        refused = OSError(28, "No space left on device")
        with mock.patch.object(place.poller, "watch", side_effect=refused):
            place.parking.add(PassedSocket(ours.detach(), 7, place.closed.append))
        assert place.ended == {7: False}
        assert "closed: No space left" in caplog.text
        place.parking.end()

    parked(main)


# The timers


class Clock:
    """A loop of which only the time counts."""

    def __init__(self):
        self.now, self.timers = 100.0, []

    def time(self):
        return self.now

    def call_at(self, when, call):
        self.timers.append((when, call))

    def go_on(self, seconds):
        """Whatever is due by then happens at its time."""
        end = self.now + seconds
        while self.timers and min(self.timers)[0] <= end:
            when, call = min(self.timers)
            self.timers.remove((when, call))
            self.now = when
            call()
        self.now = end


@pytest.fixture
def clock():
    return Clock()


def test_timeouts_run_out_in_their_order_and_little_late(clock):
    timeouts, out = Timeouts(clock, 5.0), []
    for number in range(3):
        timeouts.start(lambda number=number: out.append((number, clock.now)))
        clock.go_on(1.0)
    clock.go_on(10.0)
    assert [number for number, _ in out] == [0, 1, 2]
    for number, when in out:
        assert 105.0 + number <= when <= 105.1 + number
    assert clock.timers == []


def test_however_many_there_are_one_timer_of_the_loop_does(clock):
    timeouts, out = Timeouts(clock, 5.0), []
    for _ in range(100):
        timeouts.start(lambda: out.append(clock.now))
        assert len(clock.timers) == 1
        clock.go_on(0.0001)
    clock.go_on(6.0)
    assert len(out) == 100
    assert len(set(out)) == 1  # of nearly the same time: in one go


def test_what_is_cancelled_does_not_run_out(clock):
    timeouts, out = Timeouts(clock, 5.0), []
    first, second, third = (timeouts.start(lambda each=each: out.append(each)) for each in "abc")
    first.cancel()
    first.cancel()
    third.call = lambda: None
    clock.go_on(6.0)
    second.cancel()  # too late
    assert out == ["b"]
    timeouts.start(lambda: out.append("d"))
    clock.go_on(6.0)
    assert out == ["b", "d"]


def test_one_that_runs_out_can_cancel_the_next(clock):
    timeouts, out = Timeouts(clock, 5.0), []
    timeouts.start(lambda: second.cancel())
    second = timeouts.start(lambda: out.append("second"))
    clock.go_on(6.0)
    assert out == []


def test_those_that_are_set_again_and_again_take_no_memory(clock):
    timeouts = Timeouts(clock, 5.0)
    for _ in range(1000):
        timeouts.start(lambda: None).cancel()
    assert timeouts._due == {}
    assert len(clock.timers) == 1
