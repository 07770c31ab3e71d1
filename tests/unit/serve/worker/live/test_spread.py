"""`Spread`: with a clock of the test's own."""

import itertools

import pytest

from fdpass.serve.worker.live.spread import Spread

LOOK = 0.05


SECONDS = 30


def times(left, changes=()):
    """When clients are told, looking as often as a worker does.

    Args:
        left: How many clients there are at first.
        changes: Pairs: a time, and how many clients come then, or have left by themselves.
    """
    spread, changes, told = Spread(0, SECONDS, left), list(changes), []
    for number in range(round(SECONDS / LOOK) + 1):
        now = round(number * LOOK, 6)
        while changes and changes[0][0] <= now:
            left += changes.pop(0)[1]
        due = spread.due(now, left)
        assert 0 <= due <= left
        left -= due
        told += [now] * due
    return told


@pytest.mark.parametrize("count", [1, 2, 7, 40, 600, 10_000])
def test_clients_are_told_evenly_and_the_last_one_at_the_end(count):
    told = times(count)
    assert len(told) == count
    for index, time in enumerate(told, 1):
        assert -1e-6 <= time - index * SECONDS / count < LOOK + 1e-6


def test_one_client_has_the_whole_time():
    spread = Spread(100, 4, 1)
    assert [spread.due(now, 1) for now in (100, 102, 103.99, 104)] == [0, 0, 0, 1]


def test_without_time_all_are_told_at_once():
    assert Spread(5, 0, 10).due(5, 10) == 10


def test_without_clients_nothing_is_due_and_those_that_come_have_the_rest_of_the_time():
    told = times(0, [(20, 10)])
    assert len(told) == 10
    assert told[0] >= 20
    assert all(second - first < 1.25 for first, second in itertools.pairwise(told))


def test_those_that_leave_by_themselves_let_the_others_stay_longer():
    told = times(60, [(10.2, -36)])
    assert len(told) == 24
    assert len([time for time in told if time <= 10]) == 20
    assert [time for time in told if time > 10] == pytest.approx([15, 20, 25, 30], abs=LOOK)


def test_many_new_ones_are_not_told_at_once():
    told = times(1, [(10, 100)])
    assert len(told) == 101
    assert len([time for time in told if time < 11]) <= 7


def test_a_late_look_tells_all_that_were_due_and_goes_on_from_there():
    spread = Spread(0, 10, 10)
    assert spread.due(5, 10) == 5
    assert spread.due(5, 5) == 0
    assert spread.due(20, 5) == 5
