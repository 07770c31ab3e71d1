"""Starts that fail: given up before any has succeeded; later tried again after ever longer waits."""

import errno
import logging
import signal

import pytest

from fdpass._supervision import backoff
from fdpass.errors import CallFailed
from fdpass.serve.dispatcher.pool import starts, upkeep


@pytest.fixture(autouse=True)
def _quick(monkeypatch, caplog):
    monkeypatch.setattr(backoff, "_FIRST", 0.001)
    monkeypatch.setattr(upkeep, "_ABORT_SECONDS", 0.001)
    caplog.set_level(logging.INFO, "fdpass.serve")


def test_a_start_that_fails_is_tried_again_after_ever_longer_waits(new_pool, monkeypatch, fakes):
    case = new_pool(workers=1).start()
    patience = []
    real = fakes.loop.call_later
    monkeypatch.setattr(
        fakes.loop,
        "call_later",
        lambda seconds, act: (patience.append(seconds), real(min(seconds, 0.001), act))[1],
    )
    case.end(case.pool.workers[0])
    for _ in range(16):
        case.end(case.pool.workers[0], 1)
        fakes.run_until(lambda: case.pool.workers)
    waits = [seconds for seconds in patience if seconds and seconds != 0.005]
    assert waits[:4] == [0.001, 0.002, 0.004, 0.008]
    assert waits[-1] == backoff._LONGEST
    case.make_ready(case.starting())
    assert case.pool.starts.failure == ""
    patience.clear()
    case.end(case.pool.workers[0])
    case.end(case.pool.workers[0], 1)
    assert 0.001 in patience


def test_the_reason_and_traceback_of_a_failed_start_are_logged_once(new_pool, fakes, caplog):
    case = new_pool(workers=1).start()
    case.end(case.pool.workers[0])
    for _ in range(3):
        fakes.run_until(lambda: case.pool.workers)
        (worker,) = case.pool.workers
        worker.failure = {"sentence": "no database", "details": "Traceback of the application"}
        case.end(worker, 1)
    assert caplog.text.count("no database") == caplog.text.count("Traceback of the application") == 1
    assert caplog.text.count("trying again in") == 3
    assert case.pool.starts.failure == "no database"


def test_the_reason_of_a_failed_start_is_repeated_now_and_then(new_pool, fakes, caplog, monkeypatch):
    """Without its traceback."""
    case = new_pool(workers=1).start()
    case.end(case.pool.workers[0])
    for quiet in (60, 60, 0, 60, 0):
        monkeypatch.setattr(starts, "_QUIET_SECONDS", quiet)
        fakes.run_until(lambda: case.pool.workers)
        (worker,) = case.pool.workers
        worker.failure = {"sentence": "no database", "details": "Traceback of the application"}
        case.end(worker, 1)
    again = [record.message for record in caplog.records if "trying again in" in record.message]
    assert [text.partition(":")[0] for text in again] == [
        "a worker could not be started",
        "a worker could not be started",
        "a worker could not be started (no database)",
        "a worker could not be started",
        "a worker could not be started (no database)",
    ]
    assert caplog.text.count("Traceback of the application") == 1


def test_a_fork_that_fails_is_tried_again(new_pool, fakes):
    case = new_pool().start()
    case.pool.scale(3)
    fakes.start_error = CallFailed(errno.EAGAIN, "cannot start python: Resource temporarily unavailable")
    case.end(case.starting()[0], 1)
    fakes.run_until(lambda: "cannot start python" in case.pool.starts.failure)
    fakes.start_error = None
    fakes.run_until(lambda: len(case.pool.workers) == 3)


REPORTED = {"sentence": "there is no module 'case'", "details": ""}


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [
        (REPORTED, 1, "there is no module 'case'"),
        ({}, 3, "a worker ended before it was ready (exit code 3)"),
        ({}, -signal.SIGKILL, "a worker ended before it was ready (killed by SIGKILL)"),
    ],
)
def test_the_first_failure_before_any_worker_was_ready_decides(new_pool, caplog, failure, status, reason):
    case = new_pool()
    case.pool.reconcile()
    first, second = case.pool.workers
    first.failure = dict(failure)
    case.end(first, status)
    assert case.pool.starts.given_up == reason
    second.failure = {"sentence": "another reason", "details": ""}
    case.end(second, 1)
    assert case.pool.starts.given_up == reason
    assert len(case.fakes.children) == 2, "no worker is started any more"
    assert caplog.text == "", "what raises StartFailed tells the reason"


def test_a_fork_that_fails_before_any_worker_was_ready_decides(new_pool, fakes):
    case = new_pool()
    fakes.start_error = CallFailed(errno.EAGAIN, "cannot start python: Resource temporarily unavailable")
    case.pool.reconcile()
    assert "cannot start python" in case.pool.starts.given_up
    assert case.states() == []


def test_one_ready_worker_is_enough_for_the_others_to_be_tried_again(new_pool, fakes):
    case = new_pool()
    case.pool.reconcile()
    first, second = case.pool.workers
    case.make_ready([first])
    case.fail(second, "the port of the metrics is taken")
    assert case.pool.starts.given_up == ""
    fakes.run_until(lambda: len(case.pool.workers) == 2)


def test_a_worker_that_has_reported_its_failure_and_does_not_end_is_killed(new_pool, fakes, monkeypatch):
    real = fakes.loop.call_later
    monkeypatch.setattr(fakes.loop, "call_later", lambda seconds, act: real(min(seconds, 0.001), act))
    case = new_pool(workers=1)
    case.pool.reconcile()
    (worker,) = case.pool.workers
    case.pool.on_failed(worker, dict(REPORTED))
    fakes.run_until(lambda: worker.child.signals == [signal.SIGKILL])
    case.end(worker, -signal.SIGKILL)
    assert case.pool.starts.given_up == "there is no module 'case'"


def test_starts_are_never_given_up_once_a_worker_was_ready(new_pool, fakes):
    case = new_pool(workers=1).start()
    case.end(case.pool.workers[0])
    (worker,) = case.pool.workers
    worker.failure = {"sentence": "the code is broken now", "details": ""}
    case.end(worker, 1)
    assert case.pool.starts.given_up == ""
    fakes.run_until(lambda: case.pool.workers)


@pytest.mark.parametrize("failure", [{}, {"sentence": "no database", "details": ""}])
def test_a_worker_that_is_not_ready_in_time_is_aborted_and_killed(new_pool, fakes, failure):
    """Also a worker that has reported why it failed, but does not end: a thread of the application may hold it."""
    case = new_pool(workers=1, start_timeout=0.1).start()
    case.end(case.pool.workers[0])
    (worker,) = case.pool.workers
    worker.failure = dict(failure)
    case.upkeep.check()
    assert worker.child.signals == []
    worker.started_at -= 1
    case.upkeep.check()
    case.upkeep.check()
    assert worker.child.signals == [signal.SIGABRT]
    fakes.run_until(lambda: signal.SIGKILL in worker.child.signals)
    case.end(worker, -signal.SIGABRT)
    too_late = "a worker was not ready within 0.1 s (--start-timeout)"
    assert case.pool.starts.failure == failure.get("sentence", too_late)
