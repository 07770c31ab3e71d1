"""`ActiveWorkers`: loads, refused workers, and workers that do not read their channel."""

import signal

import pytest

from fdpass.serve.dispatcher.accept.active_workers import _MOST_BEATS_UNREAD, WINDOW, ActiveWorkers
from fdpass.serve.dispatcher.accept.balance import NEVER
from fdpass.serve.dispatcher.pool.worker_handle import Turn

from ..._estates import connections_of


@pytest.fixture
def connections():
    return connections_of(100)


@pytest.fixture
def active(fakes, connections):
    return ActiveWorkers(connections, fakes.ledger, 5)


def test_loads_have_the_connections_of_each_active_worker_that_can_take_one(fakes, active, connections):
    """A row without an active worker, a refused worker, and one at its capacity can take none."""
    for row in (0, 2, 3, 4):
        active.add(fakes.make(row))
    connections.live_of[:5] = [3, 1, 5, 2, 4]
    active.refuse(active[3])
    assert active.loads() == [3, NEVER, NEVER, NEVER, 4]
    assert [active.load(row) for row in (0, 2, 3, 4)] == [3, NEVER, NEVER, 4]
    assert active.any_can_take
    active.remove(active[4])
    assert active.loads() == [3, NEVER, NEVER, NEVER]
    connections.live_of[0] = 5
    assert not active.any_can_take


def test_a_worker_is_refused_without_credit_and_readmitted_with_it(fakes, active):
    worker = fakes.make(0)
    active.add(worker)
    worker.sent = WINDOW - 1
    assert active.credit(worker) == 1
    worker.sent = WINDOW
    assert active.credit(worker) == 0
    active.readmit()
    assert (active.loads(), fakes.ledger.starved[0]) == ([NEVER], 1)
    fakes.ledger.taken[0] = 1
    active.readmit()
    assert (active.loads(), fakes.ledger.starved[0]) == ([0], 0)


@pytest.mark.parametrize("unread", ["connections", "turn"])
def test_a_worker_that_beats_and_does_not_read_its_channel_is_killed(fakes, active, unread):
    worker = fakes.make(0)
    active.add(worker)
    if unread == "turn":
        worker.turns.append(Turn(0, [1]))
    else:
        worker.sent = 1
    check(fakes, active, worker, _MOST_BEATS_UNREAD)
    assert worker.child.signals == []
    check(fakes, active, worker, 1)
    assert worker.child.signals == [signal.SIGKILL]


def test_a_worker_that_reads_or_has_nothing_to_read_is_not_killed(fakes, active):
    worker = fakes.make(0)
    active.add(worker)
    check(fakes, active, worker, 2 * _MOST_BEATS_UNREAD)
    worker.sent = 10
    for _ in range(5):
        check(fakes, active, worker, _MOST_BEATS_UNREAD - 1)
        fakes.ledger.taken[0] += 1
    assert worker.child.signals == []


def test_a_worker_that_is_stuck_is_not_taken_for_one_that_does_not_read(fakes, active):
    """Its loop does not beat: `Upkeep` ends it after ``--hang-timeout``."""
    worker = fakes.make(0)
    active.add(worker)
    worker.sent = 1
    for _ in range(3 * _MOST_BEATS_UNREAD):
        active.kill_if_deaf(worker)
    assert worker.child.signals == []


def check(fakes, active, worker, beats):
    """Check the worker once after each of so many beats."""
    for _ in range(beats):
        fakes.ledger.beat[worker.row] += 1
        active.kill_if_deaf(worker)
