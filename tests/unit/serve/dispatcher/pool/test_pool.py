"""The workers as a whole: as many as are wanted, scaled, recycled, retired new before old."""

import logging
import signal
import time

import pytest

from fdpass.serve.dispatcher.pool import upkeep
from fdpass.serve.dispatcher.pool.worker_handle import MOVES, State
from fdpass.serve.shared import messages


@pytest.fixture(autouse=True)
def _quick(monkeypatch, caplog):
    monkeypatch.setattr(upkeep, "_DYING", 0.001)
    caplog.set_level(logging.INFO, "fdpass.serve")


def test_as_many_as_are_wanted_are_started_and_set_up(works):
    shop = works(workers=3)
    shop.pool.reconcile()
    assert shop.states() == [(0, 1, "starting"), (1, 1, "starting"), (2, 1, "starting")]
    assert shop.owner.told == [("set up", 1000, 1), ("set up", 1001, 1), ("set up", 1002, 1)]
    assert not shop.pool.complete
    shop.all_ready()
    assert shop.pool.complete
    assert [member.row for member in shop.pool.members] == [0, 1, 2]


def test_ready_counts_once(works):
    shop = works().start()
    told = list(shop.owner.told)
    shop.pool.on_ready(shop.pool.members[0])
    assert shop.owner.told == told


def test_one_that_ends_is_replaced_at_once_in_its_row(works, caplog):
    shop = works().start()
    first, _ = shop.pool.members
    shop.owner.lost = "; 7 connection(s) lost"
    shop.end(first, -signal.SIGSEGV)
    assert shop.states() == [(1, 1, "ready"), (2, 1, "starting")]
    assert [member.row for member in shop.pool.members] == [1, 0]
    assert shop.owner.told[-3:] == [("leaving", 1000), ("gone", 1000), ("set up", 1002, 1)]
    assert "worker 1000 ended (killed by SIGSEGV); another is started; 7 connection(s) lost" in caplog.text


def test_only_allowed_moves(works):
    (member, _) = works().start().pool.members
    assert set(MOVES) == set(State)
    with pytest.raises(AssertionError):
        member.move(State.STARTING)


# Scale


def test_more_are_started(works):
    shop = works().start()
    shop.pool.scale(4)
    assert len(shop.states()) == 4
    assert not shop.pool.complete
    shop.all_ready()
    assert shop.pool.complete


def test_fewer_keep_those_with_most_to_finish(works):
    shop = works(workers=3).start()
    for member, live in zip(shop.pool.members, (5, 1, 9), strict=True):
        member.live = live
    shop.pool.scale(2)
    assert shop.states() == [(0, 1, "ready"), (1, 1, "retiring"), (2, 1, "ready")]
    assert shop.pool.complete
    shop.end(shop.pool.members[1])
    assert len(shop.states()) == 2


def test_those_that_have_not_begun_go_first(works):
    shop = works().start()
    shop.pool.scale(3)
    shop.pool.scale(2)
    *ready, begun = shop.pool.members
    assert [member.state for member in ready] == [State.READY] * 2
    assert signal.SIGKILL in begun.child.signals
    shop.end(begun, -signal.SIGKILL)
    assert shop.pool.complete


def test_a_new_one_is_not_started_before_the_others_have_what_the_dead_one_had(works, staff):
    shop = works().start()
    dead = shop.pool.members[0]
    shop.owner.waiting = True
    shop.end(dead)
    staff.go(3)
    assert len(shop.states()) == 1
    shop.owner.waiting = False
    staff.go_until(lambda: len(shop.states()) == 2)


def test_but_before_long(works, staff):
    """Those that are there may be stuck."""
    shop = works().start()
    shop.owner.waiting = True
    shop.end(shop.pool.members[0])
    staff.go_until(lambda: len(shop.states()) == 2)


def test_and_at_once_if_nobody_else_is_ready(works):
    shop = works(workers=1).start()
    shop.owner.waiting = True
    shop.end(shop.pool.members[0])
    assert [state for *_, state in shop.states()] == ["starting"]


# Retire and replace


def test_new_before_old(works):
    shop = works().start()
    old, other = shop.pool.members
    shop.pool.on_leaving(old)
    assert old.state is State.READY
    assert len(shop.states()) == 3
    shop.all_ready()
    assert old.state is State.RETIRING
    assert ("leaving", old.pid) in shop.owner.told
    assert other.state is State.READY
    shop.end(old)
    assert shop.pool.complete


def test_a_retiring_worker_is_told_once_and_killed_when_its_time_is_over(works, staff):
    shop = works(graceful_timeout=1).start()
    old = shop.pool.members[0]
    desk = staff.desk(old)
    shop.pool.on_leaving(old)
    shop.all_ready()
    assert staff.read(desk) == [(messages.RETIRE, b"", 0)]
    shop.upkeep.look()
    assert old.child.signals == []
    old.deadline = time.monotonic() - 1
    shop.upkeep.look()
    shop.upkeep.look()
    assert old.child.signals == [signal.SIGKILL]


def test_one_that_has_handled_enough_is_replaced_one_at_a_time(works, staff):
    shop = works(max_requests=10).start()
    for member in shop.pool.members:
        staff.ledger.handled[member.row] = 10
    shop.upkeep.look()
    shop.upkeep.look()
    assert [member.outgoing for member in shop.pool.members] == [True, False, False]
    first = shop.pool.members[0]
    shop.all_ready()
    shop.end(first)
    shop.upkeep.look()
    assert [member.outgoing for member in shop.pool.members] == [True, False, False]


def test_one_that_has_grown_too_big_is_replaced(works, monkeypatch, caplog):
    shop = works(max_rss="100M").start()
    monkeypatch.setattr(upkeep, "resident", {1000: 50 << 20, 1001: 200 << 20}.get)
    shop.upkeep.look()
    assert [member.outgoing for member in shop.pool.members] == [False, True, False]
    assert "worker 1001 has 200 MiB resident" in caplog.text


def test_one_that_hangs_prints_its_stacks_and_is_killed(works, staff, caplog):
    shop = works(hang_timeout=5).start()
    stuck, _ = shop.pool.members
    staff.hang(stuck)
    shop.upkeep.look()
    assert stuck.child.signals == []
    stuck.since -= 10
    shop.upkeep.look()
    shop.upkeep.look()
    assert stuck.child.signals == [signal.SIGABRT]
    assert caplog.text.count("worker 1000 hangs") == 1
    staff.go_until(lambda: signal.SIGKILL in stuck.child.signals)
    shop.end(stuck, -signal.SIGABRT)
    assert len(shop.states()) == 2


def test_without_a_limit_nobody_hangs(works, staff):
    shop = works(hang_timeout=0).start()
    for member in shop.pool.members:
        staff.hang(member)
        member.since -= 10**6
    shop.upkeep.look()
    assert all(member.child.signals == [] for member in shop.pool.members)


# The end


def test_after_stop_nobody_is_started_and_all_have_a_time_to_go(works, staff):
    shop = works().start()
    desks = [staff.desk(member) for member in shop.pool.members]
    shop.pool.stop()
    deadlines = [member.deadline for member in shop.pool.members]
    assert None not in deadlines
    for member in shop.pool.members:
        shop.pool.retire(member, messages.END)
    assert [staff.read(desk) for desk in desks] == [[(messages.END, b"", 0)]] * 2
    assert [member.deadline for member in shop.pool.members] == deadlines
    for member in shop.pool.members:
        shop.end(member)
    assert shop.states() == []


def test_kill_ends_all_at_once(works):
    shop = works().start()
    shop.pool.scale(3)
    shop.pool.stop()
    shop.pool.kill()
    assert all(signal.SIGKILL in member.child.signals for member in shop.pool.members)
