"""Reloads: the next generation serves once all of its workers are ready, or the old generation goes on."""

import errno
import logging
import os
import signal

import pytest

from fdpass.errors import CallFailed
from fdpass.serve.dispatcher.pool import starts
from fdpass.serve.dispatcher.pool.worker_handle import State
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config


@pytest.fixture(autouse=True)
def _many_processors(monkeypatch):
    """So that all workers are started at once."""
    monkeypatch.setattr(starts, "_PROCESSORS", 64)


@pytest.fixture
def case(new_pool, caplog):
    """A pool whose first generation serves."""
    caplog.set_level(logging.INFO, "fdpass.serve")
    return new_pool(workers=2).start()


def test_the_old_generation_serves_until_the_new_one_is_ready(case):
    case.reload(Config(workers=2))
    assert case.generations() == [(1, "ready")] * 2 + [(2, "starting")] * 2
    first, second = case.starting()
    case.make_ready([first])
    assert case.generations() == [(1, "ready")] * 2 + [(2, "ready"), (2, "starting")]
    assert case.pool.current.number == 1
    assert not case.pool.complete
    case.make_ready([second])
    assert case.generations() == [(1, "retiring")] * 2 + [(2, "ready")] * 2
    assert case.pool.current.number == 2
    assert case.pool.candidate is None
    assert case.outcomes == [""]
    assert case.pool.complete


def test_the_new_generation_serves_early_if_all_workers_of_the_old_one_have_died(case):
    case.reload(Config(workers=2))
    first, second = case.starting()
    old = case.pool.workers[:2]
    case.make_ready([first])
    case.end(old[0], -signal.SIGKILL)
    assert case.pool.current.number == 1  # a worker is left
    case.end(old[1], -signal.SIGKILL)
    assert case.pool.current.number == 2
    assert ("activate", first.pid) in case.owner.calls
    assert ("activate", second.pid) not in case.owner.calls
    assert case.outcomes == [""]
    assert not case.pool.complete
    case.make_ready([second])
    assert len([call for call in case.owner.calls if call[0] == "set up" and call[2] == 1]) == 3  # none for old[1]
    assert case.generations() == [(2, "ready")] * 2 + [(1, "retiring")]


def test_workers_of_the_old_generation_that_start_are_ended_when_the_new_one_serves(case):
    case.reload(Config(workers=2))
    first, second = case.starting()
    old = case.pool.workers[:2]
    for worker in old:
        case.end(worker, -signal.SIGKILL)
    (late, later) = (worker for worker in case.starting() if worker.generation == 1)
    case.make_ready([first])
    assert {late.state, later.state} == {State.RETIRING}
    assert signal.SIGKILL in late.child.signals
    assert second.state is State.STARTING


def test_the_new_generation_serves_early_if_its_first_worker_is_ready_after_the_death_of_the_last_old_one(case):
    case.reload(Config(workers=2))
    for worker in case.pool.workers[:2]:
        case.end(worker, -signal.SIGKILL)
    assert case.pool.current.number == 1
    case.make_ready([worker for worker in case.starting() if worker.generation == 2][:1])
    assert case.pool.current.number == 2
    assert case.outcomes == [""]


def test_the_new_generation_has_the_new_settings(case):
    case.reload(Config(workers=2, keep_alive=9))
    assert [case.owner.configs[worker.pid].keep_alive for worker in case.pool.workers] == [5, 5, 9, 9]
    case.make_ready(case.starting())
    case.end(case.pool.workers[-1])
    (fresh,) = case.starting()
    assert (fresh.generation, case.owner.configs[fresh.pid].keep_alive) == (2, 9)


def test_code_that_does_not_start_leaves_the_old_generation_and_reports_why(case, caplog):
    case.reload(Config(workers=2))
    first, second = case.starting()
    case.make_ready([first])
    case.fail(second, "SyntaxError", "Traceback of it\n")
    assert case.outcomes == ["SyntaxError\nTraceback of it"]
    assert case.pool.candidate is None
    assert case.generations() == [(1, "ready")] * 2 + [(2, "retiring")]
    assert signal.SIGKILL in first.child.signals
    assert "generation 2 did not start, generation 1 goes on: SyntaxError" in caplog.text
    case.end(first, -signal.SIGKILL)
    assert case.generations() == [(1, "ready")] * 2
    assert case.pool.complete


def test_a_worker_that_cannot_be_made_ends_the_reload_and_the_reply_says_why(case, fakes):
    fakes.start_error = CallFailed(errno.EMFILE, "cannot start python: Too many open files")
    case.reload(Config(workers=2))
    fakes.run_until(lambda: case.outcomes)
    assert case.outcomes == ["cannot start python: Too many open files"]
    assert case.pool.candidate is None
    assert case.pool.starts.failure == ""
    assert case.generations() == [(1, "ready")] * 2


def test_a_reload_succeeds_after_one_that_failed(case):
    case.reload(Config(workers=2))
    first, second = case.starting()
    case.fail(first)
    case.end(second, -signal.SIGKILL)
    case.reload(Config(workers=2))
    case.make_ready(case.starting())
    assert case.outcomes == ["SyntaxError", ""]
    assert [worker.generation for worker in case.pool.workers if worker.state is State.READY] == [2, 2]


def test_an_old_worker_that_dies_during_a_reload_is_replaced_in_its_generation(case):
    case.reload(Config(workers=2))
    old = case.pool.workers[0]
    case.end(old, -signal.SIGKILL)
    assert sorted(case.generations()) == [(1, "ready"), (1, "starting"), (2, "starting"), (2, "starting")]
    new = [worker for worker in case.starting() if worker.generation == 2]
    case.make_ready(new)
    replacement = next(worker for worker in case.pool.workers if worker.generation == 1 and worker is not old)
    assert case.pool.current.number == 2
    assert all(worker.state is State.RETIRING for worker in case.pool.workers if worker.generation == 1)
    assert replacement.generation == 1


def test_a_new_worker_that_dies_after_it_was_ready_does_not_end_the_reload(case):
    """A kill from outside says nothing about the code: another worker is started."""
    case.reload(Config(workers=2))
    first, second = case.starting()
    case.make_ready([first])
    case.end(first, -signal.SIGKILL)
    assert case.pool.candidate is not None
    case.make_ready([second])
    assert case.pool.current.number == 1
    case.make_ready([worker for worker in case.starting() if worker.generation == 2])
    assert case.pool.current.number == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_a_reload_takes_the_number_of_workers_from_the_settings(case, workers):
    case.reload(Config(workers=workers))
    assert case.pool.target == 2, "until the next generation serves"
    case.make_ready(case.starting())
    assert case.pool.target == workers
    assert case.generations().count((2, "ready")) == workers
    for worker in case.pool.workers:
        if worker.state is State.RETIRING:
            case.end(worker)
    assert case.generations() == [(2, "ready")] * workers
    assert case.pool.complete


def test_old_workers_serve_during_a_reload_to_fewer_workers(case):
    """Both old workers serve until the one new worker is ready."""
    case.reload(Config(workers=1))
    assert (1, "ready") in case.generations()


def test_a_reload_keeps_a_scaled_number_of_workers_unless_the_settings_have_changed(case):
    case.pool.scale(3)
    case.make_ready(case.starting())
    case.reload(Config(workers=2))
    assert case.pool.target == 3
    case.make_ready(case.starting())
    assert case.generations().count((2, "ready")) == 3


def test_a_reload_that_failed_does_not_change_the_number_of_workers(case):
    case.reload(Config(workers=4))
    for worker in case.starting():
        if worker.generation == 2:
            case.fail(worker)
            break
    assert case.pool.target == 2
    for worker in case.pool.workers:
        if signal.SIGKILL in worker.child.signals:
            case.end(worker, -signal.SIGKILL)
    assert case.generations().count((1, "ready")) == 2


def test_scaling_during_a_reload_scales_the_next_generation_too(case):
    case.reload(Config(workers=2))
    case.pool.scale(3)
    assert case.generations().count((2, "starting")) == 3
    case.make_ready(case.starting())
    assert case.pool.current.number == 2
    assert case.generations().count((2, "ready")) == 3


def test_a_stop_ends_a_reload(case):
    case.reload(Config(workers=2))
    case.pool.stop()
    assert case.pool.candidate is None
    assert case.outcomes == ["the server is stopping"]
    case.make_ready(case.starting())
    assert case.pool.current.number == 1


@pytest.mark.parametrize("serves", [True, False])
def test_the_outcome_of_a_reload_is_reported_once(case, serves):
    case.reload(Config(workers=2))
    first, second = case.starting()
    assert case.outcomes == []
    case.make_ready([first])
    assert case.outcomes == []
    case.make_ready([second]) if serves else case.fail(second)
    for worker in case.pool.workers:
        if worker.state is not State.READY:
            case.end(worker)
    case.pool.stop()
    assert case.outcomes == ["" if serves else "SyntaxError"]


def logs_of(worker_ends, fakes):
    """The LOG messages in what each worker read; each has one descriptor."""
    return [[word for word, _, count in fakes.read(worker_end) if count == 1] for worker_end in worker_ends]


def test_workers_log_to_the_file_of_their_generation_until_it_is_replaced(case, fakes, tmp_path):
    case.reload(Config(workers=2), str(tmp_path / "log"))
    old, new = case.pool.workers[:2], case.starting()
    worker_ends = [fakes.worker_end(worker) for worker in old + new]
    assert logs_of(worker_ends, fakes) == [[], [], [], []]
    case.pool.reopen_logs()
    assert logs_of(worker_ends, fakes) == [[], [], [messages.LOG], [messages.LOG]]
    case.make_ready(new)
    assert logs_of(worker_ends[:2], fakes) == [[messages.LOG], [messages.LOG]]


@pytest.mark.parametrize("how", ["switched", "refused", "stopped"])
def test_an_access_log_that_no_generation_uses_any_more_is_closed(case, tmp_path, how):
    case.reload(Config(workers=2), str(tmp_path / "log"))
    fresh = case.pool.candidate.access_log
    number = fresh.fd.fileno()
    if how == "switched":
        case.make_ready(case.starting())
        assert os.path.samefile(f"/proc/self/fd/{number}", tmp_path / "log")
        case.reload(Config(workers=2))
        case.make_ready([worker for worker in case.starting() if worker.generation == 3])
    elif how == "refused":
        case.fail(case.starting()[0])
    else:
        case.pool.stop()
    assert fresh.fd.closed


def test_while_workers_serve_no_more_start_at_a_time_than_there_are_processors(case, monkeypatch):
    monkeypatch.setattr(starts, "_PROCESSORS", 2)
    case.reload(Config(workers=5))
    for count in (2, 2, 1):
        assert len(case.starting()) == count
        case.make_ready(case.starting())
    assert case.pool.current.number == 2


def test_if_no_worker_serves_all_are_started_at_once(case, monkeypatch):
    monkeypatch.setattr(starts, "_PROCESSORS", 1)
    for worker in case.pool.workers:
        case.end(worker)
    assert len(case.starting()) == 2
