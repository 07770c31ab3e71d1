"""Workers that do not start: tried again with growing patience, explained once, given up where it is hopeless."""

import errno
import logging
import signal

import pytest

from fdpass.errors import CallFailed
from fdpass.serve.dispatcher.pool import backoff, upkeep


@pytest.fixture(autouse=True)
def _quick(monkeypatch, caplog):
    monkeypatch.setattr(backoff, "_FIRST", 0.001)
    monkeypatch.setattr(upkeep, "_DYING", 0.001)
    caplog.set_level(logging.INFO, "fdpass.serve")


def test_a_start_that_fails_is_tried_again_with_growing_patience(works, monkeypatch, staff):
    shop = works(workers=1).start()
    patience = []
    real = staff.loop.call_later
    monkeypatch.setattr(
        staff.loop,
        "call_later",
        lambda seconds, act: (patience.append(seconds), real(min(seconds, 0.001), act))[1],
    )
    shop.end(shop.pool.members[0])
    for _ in range(16):
        shop.end(shop.pool.members[0], 1)
        staff.go_until(lambda: shop.pool.members)
    waits = [seconds for seconds in patience if seconds and seconds != 0.005]
    assert waits[:4] == [0.001, 0.002, 0.004, 0.008]
    assert waits[-1] == backoff._MOST
    shop.all_ready()
    assert shop.pool.trouble == ""
    patience.clear()
    shop.end(shop.pool.members[0])
    shop.end(shop.pool.members[0], 1)
    assert 0.001 in patience


def test_why_it_failed_is_logged_once_and_its_traceback_with_it(works, staff, caplog):
    shop = works(workers=1).start()
    shop.end(shop.pool.members[0])
    for _ in range(3):
        staff.go_until(lambda: shop.pool.members)
        (member,) = shop.pool.members
        member.failure = {"sentence": "no database", "details": "Traceback of the application", "final": False}
        shop.end(member, 1)
    assert caplog.text.count("no database") == caplog.text.count("Traceback of the application") == 1
    assert caplog.text.count("trying again in") == 3
    assert shop.pool.trouble == "no database"


def test_a_fork_that_fails_is_tried_again(works, staff):
    shop = works()
    staff.failing = CallFailed(errno.EAGAIN, "cannot start python: Resource temporarily unavailable")
    shop.pool.reconcile()
    assert shop.states() == []
    assert "cannot start python" in shop.pool.trouble
    staff.failing = None
    staff.go_until(lambda: len(shop.pool.members) == 2)


def test_the_first_start_is_hopeless_if_trying_again_cannot_help(works):
    shop = works()
    shop.pool.reconcile()
    first = shop.pool.members[0]
    first.failure = {"sentence": "there is no module 'shop'", "details": "", "final": True}
    shop.end(first, 1)
    assert shop.pool.hopeless == "there is no module 'shop'"
    assert len(shop.staff.children) == 2, "nobody is started any more"


def test_the_first_start_is_hopeless_after_its_time(works, staff):
    shop = works(workers=1, start_timeout=0.1)
    shop.pool.reconcile()
    shop.pool._began -= 1
    shop.end(shop.pool.members[0], 3)
    assert shop.pool.hopeless == "a worker ended before it was ready (exit code 3)"


def test_once_one_was_ready_nothing_is_hopeless(works, staff):
    shop = works(workers=1, start_timeout=0.1).start()
    shop.pool._began -= 1
    shop.end(shop.pool.members[0])
    (member,) = shop.pool.members
    member.failure = {"sentence": "the code is broken now", "details": "", "final": True}
    shop.end(member, 1)
    assert shop.pool.hopeless == ""
    staff.go_until(lambda: shop.pool.members)


@pytest.mark.parametrize("failure", [{}, {"sentence": "no database", "details": "", "final": False}])
def test_one_that_is_not_ready_in_time_is_struck_down(works, staff, failure):
    """Also one that said why it failed, but does not end: a thread of the application may hold it."""
    shop = works(workers=1, start_timeout=0.1).start()
    shop.end(shop.pool.members[0])
    (member,) = shop.pool.members
    member.failure = dict(failure)
    shop.upkeep.look()
    assert member.child.signals == []
    member.began -= 1
    shop.upkeep.look()
    shop.upkeep.look()
    assert member.child.signals == [signal.SIGABRT]
    staff.go_until(lambda: signal.SIGKILL in member.child.signals)
    shop.end(member, -signal.SIGABRT)
    assert shop.pool.trouble == failure.get("sentence", "a worker was not ready within 0.1 s (--start-timeout)")
