"""Parked connections, and the timers that end connections."""

import asyncio
import contextlib
import socket
from unittest import mock

import pytest

from fdpass.serve.worker.parking import Parking
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.timeouts import Timeouts


class ParkedClients:
    """A parking with so many connections; which of them were served, closed and given back."""

    def __init__(self, count, seconds):
        loop = asyncio.get_running_loop()
        self.poller = Poller(loop)
        self.served, self.closed, self.clients, self.duplicates = [], [], [], []
        self.parking = Parking(self.poller, seconds, self.served.append)
        for slot in range(count):
            ours, theirs = socket.socketpair()
            self.clients.append(theirs)
            self.duplicates.append(ours.dup())  # as the dispatcher keeps them
            self.parking.add(PassedSocket(ours.detach(), slot, self.closed.append))

    @property
    def returned(self):
        """By slot, for each closed socket, whether its connection was given back."""
        return {passed.slot: passed.returned for passed in self.closed}

    def close(self):
        for sock in (*self.clients, *self.duplicates, *self.served):
            sock.close()
        assert not self.poller._calls
        self.poller.close()


def run_with_parked(main, count=3, seconds=60.0):
    """Run ``main(parked)``."""

    async def whole():
        with contextlib.closing(ParkedClients(count, seconds)) as parked:
            await asyncio.wait_for(main(parked), 30)

    asyncio.run(whole())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_a_connection_is_served_when_its_client_sends_or_goes_and_others_stay_parked():
    async def main(parked):
        parked.clients[1].send(b"GET")
        await until(lambda: parked.served)
        assert [passed.slot for passed in parked.served] == [1]
        assert parked.served[0].recv(10) == b"GET"  # parking has read nothing
        parked.clients[2].close()  # only reading tells an end from data
        await until(lambda: len(parked.served) == 2)
        assert parked.closed == []
        parked.parking.end()

    run_with_parked(main)


def test_a_connection_that_stays_idle_too_long_is_closed():
    async def main(parked):
        parked.clients[0].send(b"GET")
        await until(lambda: len(parked.closed) == 2)
        assert parked.returned == {1: False, 2: False}
        assert [passed.slot for passed in parked.served] == [0]

    run_with_parked(main, seconds=0.05)


def test_give_back_returns_all_connections_and_ends_none():
    async def main(parked):
        parked.clients[0].send(b"GET")
        parked.parking.give_back()
        assert parked.returned == {0: True, 1: True, 2: True}
        assert parked.clients[1].send(b"still open") == 10

    run_with_parked(main)


def test_end_serves_connections_whose_clients_have_sent_and_closes_the_rest():
    async def main(parked):
        parked.clients[2].send(b"GET")
        parked.parking.end()
        assert parked.returned == {0: False, 1: False}
        assert [passed.slot for passed in parked.served] == [2]

    run_with_parked(main)


def test_a_connection_that_the_kernel_refuses_to_watch_is_closed(caplog):
    async def main(parked):
        ours, theirs = socket.socketpair()
        parked.clients.append(theirs)
        refused = OSError(28, "No space left on device")
        with mock.patch.object(parked.poller, "watch", side_effect=refused):
            parked.parking.add(PassedSocket(ours.detach(), 7, parked.closed.append))
        assert parked.returned == {7: False}
        assert "closed: No space left" in caplog.text
        parked.parking.end()

    run_with_parked(main)


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
