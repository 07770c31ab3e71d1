"""A reload: the next generation is started, and takes over once it is ready; or the old one goes on."""

import contextlib
import logging
import os
import signal

import pytest

from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.pool import pool
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.worker_handle import State
from fdpass.serve.shared import messages
from fdpass.serve.shared.config import Config


class Dispatcher:
    """A fake owner: of each worker that was set up, the generation's settings."""

    def __init__(self):
        self.configs = {}
        self.waiting = False

    def buffers(self):
        return None

    def set_up(self, member, generation):
        self.configs[member.pid] = generation.config
        return True

    def ready(self, member): ...

    def leaving(self, member): ...

    def gone(self, member):
        return ""

    def waits(self):
        return self.waiting

    def settled(self): ...


@pytest.fixture(autouse=True)
def processors(monkeypatch):
    """More than workers: all are started at once."""
    monkeypatch.setattr(pool, "_PROCESSORS", 64)


class Works:
    """A pool whose first generation serves, and its workers' lives."""

    def __init__(self, staff):
        self.staff = staff
        self.owner = Dispatcher()
        self.pool = Pool(staff.loop, staff.ledger, self.owner, Config(workers=2), AccessLog(""))
        self.outcomes = []
        self.pool.reconcile()
        self.ready(self.pool.members)

    def reload(self, config, access_log=""):
        self.pool.reload(config, AccessLog(access_log), self.outcomes.append)

    def ready(self, members):
        for member in members:
            self.staff.move(member)
            self.pool.on_ready(member)

    def starting(self):
        return [member for member in self.pool.members if member.state is State.STARTING]

    def end(self, member, status=0):
        member.child.end(status)
        self.staff.go_until(lambda: member.state is State.GONE)

    def states(self):
        return [(member.generation, member.state.value) for member in self.pool.members]

    def fails(self, member, sentence="SyntaxError", details=""):
        member.failure = {"sentence": sentence, "details": details, "final": False}
        self.end(member, 1)

    def close(self):
        self.pool.stopping = True
        for member in self.pool.members:
            self.end(member)
        self.pool.close()


@pytest.fixture
def shop(staff, caplog):
    caplog.set_level(logging.INFO, "fdpass.serve")
    with contextlib.closing(Works(staff)) as shop:
        yield shop


def test_the_old_generation_serves_until_the_new_one_is_ready(shop):
    shop.reload(Config(workers=2))
    assert shop.states() == [(1, "ready")] * 2 + [(2, "starting")] * 2
    first, second = shop.starting()
    shop.ready([first])
    assert shop.states() == [(1, "ready")] * 2 + [(2, "ready"), (2, "starting")]
    assert shop.pool.current.number == 1
    assert not shop.pool.complete
    shop.ready([second])
    assert shop.states() == [(1, "retiring")] * 2 + [(2, "ready")] * 2
    assert shop.pool.current.number == 2
    assert shop.pool.candidate is None
    assert shop.outcomes == [""]
    assert shop.pool.complete


def test_the_new_generation_has_the_new_settings(shop):
    shop.reload(Config(workers=2, keep_alive=9))
    assert [shop.owner.configs[member.pid].keep_alive for member in shop.pool.members] == [5, 5, 9, 9]
    shop.ready(shop.starting())
    shop.end(shop.pool.members[-1])
    (fresh,) = shop.starting()
    assert (fresh.generation, shop.owner.configs[fresh.pid].keep_alive) == (2, 9)


def test_code_that_does_not_start_leaves_the_old_generation_and_says_why(shop, caplog):
    shop.reload(Config(workers=2))
    first, second = shop.starting()
    shop.ready([first])
    shop.fails(second, "SyntaxError", "Traceback of it\n")
    assert shop.outcomes == ["SyntaxError\nTraceback of it"]
    assert shop.pool.candidate is None
    assert shop.states() == [(1, "ready")] * 2 + [(2, "retiring")]
    assert signal.SIGKILL in first.child.signals
    assert "generation 1 goes on, for the next did not start: SyntaxError" in caplog.text
    shop.end(first, -signal.SIGKILL)
    assert shop.states() == [(1, "ready")] * 2
    assert shop.pool.complete


def test_a_reload_after_one_that_failed(shop):
    shop.reload(Config(workers=2))
    first, second = shop.starting()
    shop.fails(first)
    shop.end(second, -signal.SIGKILL)
    shop.reload(Config(workers=2))
    shop.ready(shop.starting())
    assert shop.outcomes == ["SyntaxError", ""]
    assert [member.generation for member in shop.pool.members if member.state is State.READY] == [2, 2]


def test_a_worker_that_dies_meanwhile_is_replaced_in_its_generation(shop):
    shop.reload(Config(workers=2))
    old = shop.pool.members[0]
    shop.end(old, -signal.SIGKILL)
    assert sorted(shop.states()) == [(1, "ready"), (1, "starting"), (2, "starting"), (2, "starting")]
    new = [member for member in shop.starting() if member.generation == 2]
    shop.ready(new)
    replacement = next(member for member in shop.pool.members if member.generation == 1 and member is not old)
    assert shop.pool.current.number == 2
    assert all(member.state is State.RETIRING for member in shop.pool.members if member.generation == 1)
    assert replacement.generation == 1


def test_one_of_the_new_that_was_ready_and_dies_does_not_end_the_reload(shop):
    """A kill from outside is no word on the code: another is started in its place."""
    shop.reload(Config(workers=2))
    first, second = shop.starting()
    shop.ready([first])
    shop.end(first, -signal.SIGKILL)
    assert shop.pool.candidate is not None
    shop.ready([second])
    assert shop.pool.current.number == 1
    shop.ready([member for member in shop.starting() if member.generation == 2])
    assert shop.pool.current.number == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_another_number_of_workers_comes_with_the_settings(shop, workers):
    shop.reload(Config(workers=workers))
    assert shop.pool.target == 2, "until the next generation serves"
    shop.ready(shop.starting())
    assert shop.pool.target == workers
    assert shop.states().count((2, "ready")) == workers
    for member in shop.pool.members:
        if member.state is State.RETIRING:
            shop.end(member)
    assert shop.states() == [(2, "ready")] * workers
    assert shop.pool.complete


def test_while_fewer_are_on_their_way_no_connection_is_without_a_worker(shop):
    """With one worker of the new generation wanted, the old two serve until it is ready."""
    shop.reload(Config(workers=1))
    assert (1, "ready") in shop.states()


def test_a_number_that_was_scaled_stands_unless_the_settings_have_another(shop):
    shop.pool.scale(3)
    shop.ready(shop.starting())
    shop.reload(Config(workers=2))
    assert shop.pool.target == 3
    shop.ready(shop.starting())
    assert shop.states().count((2, "ready")) == 3


def test_a_number_from_settings_that_failed_is_taken_back(shop):
    shop.reload(Config(workers=4))
    for member in shop.starting():
        if member.generation == 2:
            shop.fails(member)
            break
    assert shop.pool.target == 2
    for member in shop.pool.members:
        if signal.SIGKILL in member.child.signals:
            shop.end(member, -signal.SIGKILL)
    assert shop.states().count((1, "ready")) == 2


def test_scaling_while_a_reload_goes_on(shop):
    shop.reload(Config(workers=2))
    shop.pool.scale(3)
    assert shop.states().count((2, "starting")) == 3
    shop.ready(shop.starting())
    assert shop.pool.current.number == 2
    assert shop.states().count((2, "ready")) == 3


def test_a_stop_ends_a_reload(shop):
    shop.reload(Config(workers=2))
    shop.pool.stop()
    assert shop.pool.candidate is None
    assert shop.outcomes == ["the server is stopping"]
    shop.ready(shop.starting())
    assert shop.pool.current.number == 1


@pytest.mark.parametrize("serves", [True, False])
def test_the_outcome_is_told_once(shop, serves):
    shop.reload(Config(workers=2))
    first, second = shop.starting()
    assert shop.outcomes == []
    shop.ready([first])
    assert shop.outcomes == []
    shop.ready([second]) if serves else shop.fails(second)
    for member in shop.pool.members:
        if member.state is not State.READY:
            shop.end(member)
    shop.pool.stop()
    assert shop.outcomes == ["" if serves else "SyntaxError"]


def logs_of(desks, staff):
    """Which access logs workers were lent, by what each read."""
    return [[word for word, _, count in staff.read(desk) if count == 1] for desk in desks]


def test_workers_log_to_the_file_of_their_generation_until_it_is_replaced(shop, staff, tmp_path):
    shop.reload(Config(workers=2), str(tmp_path / "log"))
    old, new = shop.pool.members[:2], shop.starting()
    desks = [staff.desk(member) for member in old + new]
    assert logs_of(desks, staff) == [[], [], [], []]
    shop.pool.reopen_logs()
    assert logs_of(desks, staff) == [[], [], [messages.LOG], [messages.LOG]]
    shop.ready(new)
    assert logs_of(desks[:2], staff) == [[messages.LOG], [messages.LOG]]


@pytest.mark.parametrize("how", ["switched", "refused", "stopped"])
def test_an_access_log_that_nobody_uses_any_more_is_closed(shop, tmp_path, how):
    shop.reload(Config(workers=2), str(tmp_path / "log"))
    fresh = shop.pool.candidate.access_log
    number = fresh.fd.fileno()
    if how == "switched":
        shop.ready(shop.starting())
        assert os.path.samefile(f"/proc/self/fd/{number}", tmp_path / "log")
        shop.reload(Config(workers=2))
        shop.ready([member for member in shop.starting() if member.generation == 3])
    elif how == "refused":
        shop.fails(shop.starting()[0])
    else:
        shop.pool.stop()
    assert fresh.fd.closed


def test_while_some_serve_no_more_are_started_at_a_time_than_there_are_processors(shop, monkeypatch):
    monkeypatch.setattr(pool, "_PROCESSORS", 2)
    shop.reload(Config(workers=5))
    for count in (2, 2, 1):
        assert len(shop.starting()) == count
        shop.ready(shop.starting())
    assert shop.pool.current.number == 2


def test_if_none_serves_all_are_started_at_once(shop, monkeypatch):
    monkeypatch.setattr(pool, "_PROCESSORS", 1)
    for member in shop.pool.members:
        shop.end(member)
    assert len(shop.starting()) == 2
