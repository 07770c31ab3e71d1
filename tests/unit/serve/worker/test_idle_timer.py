"""Things that are idle for too long are ended, in their order and little late, with one timer of the loop."""

import pytest

from fdpass.serve.worker.idle_timer import IdleTimer


class Loop:
    """A loop of which only the time counts."""

    def __init__(self):
        self.now, self.timers = 100.0, []

    def time(self):
        return self.now

    def call_at(self, when, call):
        self.timers.append((when, call))

    def call_later(self, seconds, call):
        self.call_at(self.now + seconds, call)

    def pass_time(self, seconds):
        """What is due by then happens at its time."""
        end = self.now + seconds
        while self.timers and min(self.timers)[0] <= end:
            when, call = min(self.timers)
            self.timers.remove((when, call))
            self.now = when
            call()
        self.now = end


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def ended(loop):
    """What was ended, and when."""
    return []


@pytest.fixture
def timer(loop, ended):
    return IdleTimer(loop, 5.0, lambda thing: ended.append((thing, loop.now)))


def test_things_end_in_their_order_and_a_tenth_of_a_second_late_at_most(loop, timer, ended):
    for thing in "abc":
        timer.add(thing)
        loop.pass_time(1.0)
    loop.pass_time(10.0)
    assert [thing for thing, _ in ended] == ["a", "b", "c"]
    for number, (_, when) in enumerate(ended):
        assert 105.0 + number <= when <= 105.11 + number
    assert loop.timers == []


def test_one_timer_of_the_loop_serves_all_and_ends_those_of_nearly_the_same_time_together(loop, timer, ended):
    for thing in range(100):
        timer.add(thing)
        assert len(loop.timers) == 1
        loop.pass_time(0.0001)
    loop.pass_time(6.0)
    assert len(ended) == 100
    assert len({when for _, when in ended}) == 1


def test_a_thing_that_is_discarded_does_not_end(loop, timer, ended):
    for thing in "abc":
        timer.add(thing)
    timer.discard("a")
    timer.discard("a")
    loop.pass_time(6.0)
    assert [thing for thing, _ in ended] == ["b", "c"]


def test_a_thing_that_is_added_again_has_its_whole_time_again(loop, timer, ended):
    timer.add("a")
    timer.add("b")
    loop.pass_time(4.0)
    timer.discard("a")
    timer.add("a")
    loop.pass_time(4.0)
    assert [thing for thing, _ in ended] == ["b"]
    loop.pass_time(2.0)
    assert [thing for thing, _ in ended] == ["b", "a"]


def test_the_end_of_one_may_discard_the_next_or_add_itself_again(loop):
    ended = []

    def end(thing):
        ended.append((thing, loop.now))
        if thing == "a":
            timer.discard("b")
            timer.add("a")

    timer = IdleTimer(loop, 5.0, end)
    for thing in "abc":
        timer.add(thing)
    loop.pass_time(5.2)
    assert [thing for thing, _ in ended] == ["a", "c"]
    loop.pass_time(5.2)
    assert [thing for thing, _ in ended] == ["a", "c", "a"]
    assert len(loop.timers) == 1
