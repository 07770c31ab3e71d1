"""`Pool`: as many workers as are wanted, scaled, recycled, retired new before old."""

import logging
import signal
import time
from types import SimpleNamespace

import pytest

from fdpass.serve.dispatcher.pool import upkeep
from fdpass.serve.dispatcher.pool.worker_handle import TRANSITIONS, State
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config


@pytest.fixture(autouse=True)
def _quick(monkeypatch, caplog):
    monkeypatch.setattr(upkeep, "_ABORT_SECONDS", 0.001)
    caplog.set_level(logging.INFO, "fdpass.serve")


@pytest.fixture
def at(monkeypatch):
    """``at(seconds)``: let the monotonic clock of `Upkeep` stand there."""
    return lambda seconds: monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=lambda: seconds))


def test_as_many_as_are_wanted_are_started_and_set_up(new_pool):
    case = new_pool(workers=3)
    case.pool.reconcile()
    assert case.states() == [(0, 1, "starting"), (1, 1, "starting"), (2, 1, "starting")]
    assert case.owner.calls == [("set up", 1000, 1), ("set up", 1001, 1), ("set up", 1002, 1)]
    assert not case.pool.complete
    case.make_ready(case.starting())
    assert case.pool.complete
    assert [worker.row for worker in case.pool.workers] == [0, 1, 2]


def test_a_second_ready_of_a_worker_changes_nothing(new_pool):
    case = new_pool().start()
    calls = list(case.owner.calls)
    case.pool.on_ready(case.pool.workers[0])
    assert case.owner.calls == calls


def test_a_worker_that_ends_is_replaced_at_once_in_its_row(new_pool, caplog):
    case = new_pool().start()
    first, _ = case.pool.workers
    case.owner.outcome = "; 7 connections lost"
    case.end(first, -signal.SIGSEGV)
    assert case.states() == [(1, 1, "ready"), (2, 1, "starting")]
    assert [worker.row for worker in case.pool.workers] == [1, 0]
    assert case.owner.calls[-3:] == [("deactivate", 1000), ("recover", 1000), ("set up", 1002, 1)]
    assert "worker 1000 ended (killed by SIGSEGV); another is started; 7 connections lost" in caplog.text


def test_a_state_can_only_change_as_the_table_of_transitions_allows(new_pool):
    (worker, _) = new_pool().start().pool.workers
    assert set(TRANSITIONS) == set(State)
    with pytest.raises(AssertionError):
        worker.change_state(State.STARTING)


# Scale


def test_scaling_up_starts_workers(new_pool):
    case = new_pool().start()
    case.pool.scale(4)
    assert len(case.states()) == 4
    assert not case.pool.complete
    case.make_ready(case.starting())
    assert case.pool.complete


def test_scaling_down_retires_the_worker_with_fewest_connections(new_pool):
    case = new_pool(workers=3).start()
    for worker, live in zip(case.pool.workers, (5, 1, 9), strict=True):
        case.connections.live_of[worker.row] = live
    case.pool.scale(2)
    assert case.states() == [(0, 1, "ready"), (1, 1, "retiring"), (2, 1, "ready")]
    assert case.pool.complete
    case.end(case.pool.workers[1])
    assert len(case.states()) == 2


def test_scaling_down_ends_starting_workers_first(new_pool):
    case = new_pool().start()
    case.pool.scale(3)
    case.pool.scale(2)
    *ready, begun = case.pool.workers
    assert [worker.state for worker in ready] == [State.READY] * 2
    assert signal.SIGKILL in begun.child.signals
    case.end(begun, -signal.SIGKILL)
    assert case.pool.complete


def test_a_replacement_is_started_after_a_dead_workers_connections_have_other_workers(new_pool, fakes):
    case = new_pool().start()
    dead = case.pool.workers[0]
    case.owner.waiting = True
    case.end(dead)
    fakes.run_loop(3)
    assert len(case.states()) == 1
    case.owner.waiting = False
    fakes.run_until(lambda: len(case.states()) == 2)


def test_a_replacement_is_started_after_half_a_second_though_connections_still_wait(new_pool, fakes):
    """The workers that could take them may be stuck."""
    case = new_pool().start()
    case.owner.waiting = True
    case.end(case.pool.workers[0])
    fakes.run_until(lambda: len(case.states()) == 2)


def test_a_replacement_is_started_at_once_if_no_other_worker_is_ready(new_pool):
    case = new_pool(workers=1).start()
    case.owner.waiting = True
    case.end(case.pool.workers[0])
    assert [state for *_, state in case.states()] == ["starting"]


# Retire and replace


def test_a_worker_is_retired_after_its_replacement_is_ready(new_pool):
    case = new_pool().start()
    old, other = case.pool.workers
    case.pool.replace(old)
    assert old.state is State.READY
    assert len(case.states()) == 3
    case.make_ready(case.starting())
    assert old.state is State.RETIRING
    assert ("deactivate", old.pid) in case.owner.calls
    assert other.state is State.READY
    case.end(old)
    assert case.pool.complete


def test_a_retiring_worker_gets_one_message_and_is_killed_at_its_deadline(new_pool, fakes):
    case = new_pool(graceful_timeout=1).start()
    old = case.pool.workers[0]
    worker_end = fakes.worker_end(old)
    case.pool.replace(old)
    case.make_ready(case.starting())
    assert fakes.read(worker_end) == [(messages.RETIRE, b"", 0)]
    case.upkeep.check()
    assert old.child.signals == []
    old.deadline = time.monotonic() - 1
    case.upkeep.check()
    case.upkeep.check()
    assert old.child.signals == [signal.SIGKILL]


def test_workers_that_have_handled_max_requests_are_replaced_one_at_a_time(new_pool, fakes):
    case = new_pool(max_requests=10).start()
    for worker in case.pool.workers:
        fakes.ledger.handled[worker.row] = 10
    case.upkeep.check()
    case.upkeep.check()
    assert [worker.to_retire for worker in case.pool.workers] == [True, False, False]
    first = case.pool.workers[0]
    case.make_ready(case.starting())
    case.end(first)
    case.upkeep.check()
    assert [worker.to_retire for worker in case.pool.workers] == [True, False, False]


def test_a_worker_is_replaced_within_the_jitter_of_max_requests(new_pool, fakes):
    """uvicorn and gunicorn draw a number from 0 to the jitter, both included."""
    limits = set()
    for started_at in map(float, range(40)):
        worker = SimpleNamespace(pid=1000, started_at=started_at)
        limits.add(upkeep.jitter(worker, Config(max_requests=10, max_requests_jitter=3)))
        assert upkeep.jitter(worker, Config(max_requests=10)) == 0
    assert limits == {0, 1, 2, 3}
    case = new_pool(max_requests=10, max_requests_jitter=2**31).start()
    fakes.ledger.handled[case.pool.workers[0].row] = 10
    case.upkeep.check()
    assert not any(worker.to_retire for worker in case.pool.workers)
    fakes.ledger.handled[case.pool.workers[0].row] = 10 + 2**31
    case.upkeep.check()
    assert case.pool.workers[0].to_retire


def test_a_worker_that_exceeds_max_rss_is_replaced(new_pool, monkeypatch, caplog):
    case = new_pool(max_rss="100M").start()
    monkeypatch.setattr(upkeep, "resident_bytes", {1000: 50 << 20, 1001: 200 << 20}.get)
    case.upkeep.check()
    assert [worker.to_retire for worker in case.pool.workers] == [False, True, False]
    assert "worker 1001 has 200 MiB resident" in caplog.text


def test_a_worker_that_hangs_prints_its_stacks_and_is_killed(new_pool, fakes, caplog):
    case = new_pool(hang_timeout=5).start()
    stuck, _ = case.pool.workers
    fakes.hang(stuck)
    case.upkeep.check()
    assert stuck.child.signals == []
    stuck.state_since -= 10
    case.upkeep.check()
    case.upkeep.check()
    assert stuck.child.signals == [signal.SIGABRT]
    assert caplog.text.count("worker 1000 hangs") == 1
    fakes.run_until(lambda: signal.SIGKILL in stuck.child.signals)
    case.end(stuck, -signal.SIGABRT)
    assert len(case.states()) == 2


def test_without_hang_timeout_no_worker_is_killed(new_pool, fakes):
    case = new_pool(hang_timeout=0).start()
    for worker in case.pool.workers:
        fakes.hang(worker)
        worker.state_since -= 10**6
    case.upkeep.check()
    assert all(worker.child.signals == [] for worker in case.pool.workers)


def test_time_in_which_the_dispatcher_did_not_run_counts_for_no_worker(new_pool, fakes, at):
    """As after a suspend of the machine: all processes were stopped, and the clock went on."""
    case = new_pool(hang_timeout=1, start_timeout=3, graceful_timeout=1).start()
    first, second = case.pool.workers
    case.pool.replace(first)
    (starting,) = case.starting()
    case.pool.retire(second)
    now = time.monotonic()
    for worker in case.pool.workers:
        fakes.ledger.beat[worker.row] = int(now * 1e9)
    at(now + 18)
    case.upkeep.check()
    assert [worker.child.signals for worker in case.pool.workers] == [[], [], []]
    at(now + 18.9)
    case.upkeep.check()
    assert [worker.child.signals for worker in case.pool.workers] == [[], [], []]
    at(now + 19.5)
    case.upkeep.check()
    assert first.child.signals == second.child.signals == [signal.SIGABRT]
    assert starting.child.signals == []


def test_the_log_says_now_and_then_which_workers_have_not_finished(new_pool, fakes, at, caplog):
    case = new_pool().start()
    old = case.pool.workers[0]
    case.pool.retire(old)
    fakes.ledger.requests[old.row] = 2
    for halves in range(23):
        at(old.state_since + halves / 2 + 0.01)
        case.upkeep.check()
    said = [line for line in caplog.messages if "still finishing" in line]
    assert said == [
        "still finishing: worker 1000 (2 requests, at most 25 s)",
        "still finishing: worker 1000 (2 requests, at most 20 s)",
    ]


# The end


def test_after_stop_no_worker_is_started_and_each_has_a_deadline(new_pool, fakes):
    case = new_pool().start()
    worker_ends = [fakes.worker_end(worker) for worker in case.pool.workers]
    case.pool.stop()
    deadlines = [worker.deadline for worker in case.pool.workers]
    assert None not in deadlines
    for worker in case.pool.workers:
        case.pool.retire(worker, messages.END)
    assert [fakes.read(worker_end) for worker_end in worker_ends] == [[(messages.END, b"", 0)]] * 2
    assert [worker.deadline for worker in case.pool.workers] == deadlines
    for worker in case.pool.workers:
        case.end(worker)
    assert case.states() == []


def test_kill_kills_all_workers(new_pool):
    case = new_pool().start()
    case.pool.scale(3)
    case.pool.stop()
    case.pool.kill()
    assert all(signal.SIGKILL in worker.child.signals for worker in case.pool.workers)
