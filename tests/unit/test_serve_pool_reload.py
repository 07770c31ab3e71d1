"""A reload: the next generation is started, and takes over once it is ready; or the old one goes on."""

import contextlib
import logging
import signal

import pytest

from fdpass.serve import pool
from fdpass.serve.config import Config
from fdpass.serve.member import State
from fdpass.serve.pool import Pool


class Dispatcher:
    """A fake owner: of each worker that was set up, the generation's settings."""

    def __init__(self):
        self.configs = {}
        self.settlings = 0
        self.waiting = False

    def buffers(self):
        return None

    def set_up(self, member, generation):
        self.configs[member.pid] = generation.config

    def ready(self, member): ...

    def leaving(self, member): ...

    def gone(self, member):
        return ""

    def waits(self):
        return self.waiting

    def settled(self):
        self.settlings += 1


@pytest.fixture(autouse=True)
def processors(monkeypatch):
    """More than workers: all are started at once."""
    monkeypatch.setattr(pool, "_PROCESSORS", 64)


class Works:
    """A pool whose first generation serves, and its workers' lives."""

    def __init__(self, staff):
        self.staff = staff
        self.owner = Dispatcher()
        self.pool = Pool(staff.loop, staff.ledger, self.owner, Config(workers=2))
        self.pool.reconcile()
        self.ready(self.pool.members)

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


@pytest.fixture
def shop(staff, caplog):
    caplog.set_level(logging.INFO, "fdpass.serve")
    with contextlib.closing(Works(staff)) as shop:
        yield shop


def test_the_old_generation_serves_until_the_new_one_is_ready(shop):
    shop.pool.reload(Config(workers=2))
    assert shop.states() == [(1, "ready")] * 2 + [(2, "starting")] * 2
    first, second = shop.starting()
    shop.ready([first])
    assert shop.states() == [(1, "ready")] * 2 + [(2, "ready"), (2, "starting")]
    assert shop.pool.current.number == 1
    assert not shop.pool.complete
    shop.ready([second])
    assert shop.states() == [(1, "retiring")] * 2 + [(2, "ready")] * 2
    assert shop.pool.current.number == 2
    assert (shop.pool.candidate, shop.pool.refusal) == (None, "")
    assert shop.pool.complete


def test_the_new_generation_has_the_new_settings(shop):
    shop.pool.reload(Config(workers=2, keep_alive=9))
    assert [shop.owner.configs[member.pid].keep_alive for member in shop.pool.members] == [5, 5, 9, 9]
    shop.ready(shop.starting())
    shop.end(shop.pool.members[-1])
    (fresh,) = shop.starting()
    assert (fresh.generation, shop.owner.configs[fresh.pid].keep_alive) == (2, 9)


def test_code_that_does_not_start_leaves_the_old_generation_and_says_why(shop, caplog):
    shop.pool.reload(Config(workers=2))
    first, second = shop.starting()
    shop.ready([first])
    shop.fails(second, "SyntaxError", "Traceback of it\n")
    assert shop.pool.refusal == "SyntaxError\nTraceback of it"
    assert shop.pool.candidate is None
    assert shop.states() == [(1, "ready")] * 2 + [(2, "retiring")]
    assert signal.SIGKILL in first.child.signals
    assert "generation 1 goes on, for the next did not start: SyntaxError" in caplog.text
    shop.end(first, -signal.SIGKILL)
    assert shop.states() == [(1, "ready")] * 2
    assert shop.pool.complete


def test_a_reload_after_one_that_failed(shop):
    shop.pool.reload(Config(workers=2))
    first, second = shop.starting()
    shop.fails(first)
    shop.end(second, -signal.SIGKILL)
    shop.pool.reload(Config(workers=2))
    assert shop.pool.refusal == ""
    shop.ready(shop.starting())
    assert [member.generation for member in shop.pool.members if member.state is State.READY] == [2, 2]


def test_a_worker_that_dies_meanwhile_is_replaced_in_its_generation(shop):
    shop.pool.reload(Config(workers=2))
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
    shop.pool.reload(Config(workers=2))
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
    shop.pool.reload(Config(workers=workers))
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
    shop.pool.reload(Config(workers=1))
    assert (1, "ready") in shop.states()


def test_a_number_that_was_scaled_stands_unless_the_settings_have_another(shop):
    shop.pool.scale(3)
    shop.ready(shop.starting())
    shop.pool.reload(Config(workers=2))
    assert shop.pool.target == 3
    shop.ready(shop.starting())
    assert shop.states().count((2, "ready")) == 3


def test_a_number_from_settings_that_failed_is_taken_back(shop):
    shop.pool.reload(Config(workers=4))
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
    shop.pool.reload(Config(workers=2))
    shop.pool.scale(3)
    assert shop.states().count((2, "starting")) == 3
    shop.ready(shop.starting())
    assert shop.pool.current.number == 2
    assert shop.states().count((2, "ready")) == 3


def test_a_stop_ends_a_reload(shop):
    shop.pool.reload(Config(workers=2))
    shop.pool.stop()
    assert shop.pool.candidate is None
    shop.ready(shop.starting())
    assert shop.pool.current.number == 1


def test_nobody_waits_for_ever(shop):
    """Whoever asked hears when it has settled, either way."""
    before = shop.owner.settlings
    shop.pool.reload(Config(workers=2))
    shop.ready(shop.starting())
    assert shop.owner.settlings > before
    before = shop.owner.settlings
    shop.pool.reload(Config(workers=2))
    shop.fails(shop.starting()[0])
    assert shop.owner.settlings > before


def test_while_some_serve_no_more_are_started_at_a_time_than_there_are_processors(shop, monkeypatch):
    monkeypatch.setattr(pool, "_PROCESSORS", 2)
    shop.pool.reload(Config(workers=5))
    for count in (2, 2, 1):
        assert len(shop.starting()) == count
        shop.ready(shop.starting())
    assert shop.pool.current.number == 2


def test_if_none_serves_all_are_started_at_once(shop, monkeypatch):
    monkeypatch.setattr(pool, "_PROCESSORS", 1)
    for member in shop.pool.members:
        shop.end(member)
    assert len(shop.starting()) == 2
