"""`Upgrades`: what the keeper does at each event of an upgrade, with processes that only have numbers."""

import json
import signal

import pytest

from fdpass.errors import ConfigError
from fdpass.serve.keeper import makers, template, upgrades
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.makers import Makers
from fdpass.serve.keeper.texts import Text
from fdpass.serve.keeper.upgrades import Phase, Upgrades

CRASHED = 70 << 8  # as of wait(2)
KILLED = int(signal.SIGKILL)


class House:
    """The keeper's part, and the processes: templates have numbers from 100, dispatchers from 1."""

    def __init__(self, monkeypatch):
        self.estate = Estate.private(1)
        self.head = self.estate.head
        self.templates, self.ended, self.woken, self.replaced = [], [], 0, []
        self.dispatcher = 0
        monkeypatch.setattr(template, "start", self._start)
        monkeypatch.setattr(template, "dispatcher_of", lambda *_: 50)
        monkeypatch.setattr(makers, "end", lambda pid: pid and self.ended.append(pid))
        monkeypatch.setattr(upgrades.os, "kill", self._kill)
        self.upgrades = Upgrades(self.estate, Makers(self.estate, "1", lambda: None), self)
        self.serve()

    def _start(self, *_):
        self.templates.append(100 + len(self.templates))
        return self.templates[-1]

    def _kill(self, pid, _):
        assert pid == self.dispatcher
        self.woken += 1

    # The dispatcher, and the template

    def make(self):
        serial = self.head[Head.SERIAL]
        made = self.upgrades.make(lambda _: False)
        self.dispatcher = made or 1
        self.upgrades.on_made(self.dispatcher, serial)
        return made

    def serve(self):
        """Make a dispatcher that comes to serve. Returns its process number; 0 if the keeper has made it."""
        made = self.make()
        self.head[Head.SERIAL] += 1
        self.head[Head.SERVED] = self.head[Head.SERIAL]
        self.upgrades.look()
        return made

    def end(self):
        """The dispatcher, which has served, ends."""
        self.upgrades.on_gone()
        self.dispatcher = 0
        self.upgrades.on_served()
        self.upgrades.on_dispatcher_end()

    def fail(self, status=CRASHED, hung=False):
        """Make a dispatcher that ends before it serves."""
        self.make()
        self.upgrades.on_gone()
        self.dispatcher = 0
        self.upgrades.on_failure(status, hung=hung)
        self.upgrades.on_dispatcher_end()

    def ask(self, number=7, kind="dispatcher"):
        self.estate.texts[Text.REQUEST] = json.dumps({"number": number, "kind": kind, "python": ""})
        self.head[Head.ASKED] = number
        self.upgrades.look()

    def be_ready(self, version="2"):
        self.estate.texts[Text.REASON] = version
        self.head[Head.TEMPLATE] = self.templates[-1]
        self.upgrades.look()

    def upgrade(self, number=7, version="2"):
        self.ask(number)
        self.be_ready(version)
        self.end()
        return self.serve()

    def outcome(self, number=7):
        assert self.head[Head.ANSWERED] == number
        assert self.upgrades.phase is Phase.NONE
        assert not self.head[Head.UPGRADING]
        return json.loads(self.estate.texts[Text.OUTCOME])

    # The program

    def interpreter(self, _):
        return "python"

    def check(self, *_):
        return 90

    def output(self, _):
        return "the last line"

    def replace(self, python):
        self.replaced.append(python)
        raise ConfigError("cannot start python")


@pytest.fixture
def house(monkeypatch):
    return House(monkeypatch)


def test_a_template_makes_the_next_dispatcher_and_stays(house):
    house.ask()
    assert house.upgrades.phase is Phase.READING
    assert not house.head[Head.QUIESCE]
    house.be_ready()
    assert house.head[Head.QUIESCE]
    assert house.woken == 1
    house.head[Head.QUIESCED] = house.head[Head.SERVES] = 10**9
    house.end()
    assert not house.head[Head.QUIESCE]
    assert house.serve() == 50
    assert house.outcome() == {"ok": True, "before": "1", "after": "2", "ms": 0.0}
    house.end()
    assert house.serve() == 50
    assert house.upgrade(8, "3") == 50
    assert house.outcome(8)["before"] == "2"
    assert house.ended == [100]


def test_code_that_does_not_start_changes_nothing(house):
    house.ask()
    house.estate.texts[Text.REASON] = "SyntaxError"
    house.upgrades.on_child(100, CRASHED)
    assert house.outcome() == {"ok": False, "error": "fdpass 1 keeps serving: SyntaxError"}
    house.end()
    assert house.serve() == 0


@pytest.mark.parametrize(("status", "times"), [(CRASHED, 3), (KILLED, 10)])
def test_dispatchers_that_do_not_serve_bring_the_code_of_before_back(house, status, times):
    house.upgrade()
    house.ask(8)
    house.be_ready("3")
    house.end()
    for _ in range(times):
        assert house.upgrades.phase is Phase.ADOPTING
        house.fail(status)
    outcome = house.outcome(8)
    assert not outcome["ok"]
    assert (
        f"rolled back, fdpass 2 serves again: the new dispatcher ended before it served, {times} times"
        in outcome["error"]
    )
    assert house.ended == [101]
    assert house.serve() == 50


def test_one_that_hangs_is_enough(house):
    house.ask()
    house.be_ready()
    house.end()
    house.fail(KILLED, hung=True)
    assert "hung before it served" in house.outcome()["error"]
    assert house.serve() == 0


def test_a_dispatcher_that_dies_while_code_is_read_ends_the_template_first(house):
    house.ask()
    house.end()
    assert house.ended == [100]
    assert house.upgrades.phase is Phase.DISPATCHER
    house.serve()
    assert house.templates == [100, 101]
    house.be_ready()
    house.end()
    assert house.serve() == 50
    assert house.outcome()["ok"]


def test_dispatchers_that_die_again_and_again_do_not_stop_an_upgrade(house):
    """In the end the next dispatcher waits for the new code."""
    house.ask()
    for count in (1, 2, 3, 4, 5):
        house.end()
        assert not house.upgrades.is_awaited
        house.serve()
        assert len(house.templates) == count + 1
    house.end()
    assert house.upgrades.is_awaited
    house.be_ready()
    assert not house.upgrades.is_awaited
    assert house.serve() == 50
    assert house.outcome()["ok"]


def test_a_template_that_dies_is_made_again(house):
    house.upgrade()
    house.upgrades.on_child(100, KILLED)
    house.end()
    assert house.serve() == 0  # the keeper's own code meanwhile
    house.be_ready()
    house.end()
    assert house.serve() == 50


def test_a_stop_ends_an_upgrade_and_refuses_another(house):
    house.ask()
    house.head[Head.STOPS] += 1
    house.upgrades.on_stop()
    assert house.outcome()["error"].endswith("the server is stopping")
    assert house.ended == [100]
    house.ask(8)
    assert house.outcome(8)["error"].endswith("the server is stopping")
    assert house.templates == [100]


def test_a_signal_during_an_upgrade_asks_for_the_next_one(house):
    house.ask()
    house.upgrades.request_by_signal()
    house.be_ready()
    house.end()
    house.serve()
    assert house.outcome()["ok"]
    house.upgrades.look()
    assert house.templates == [100, 101]
    house.be_ready("3")
    house.end()
    house.serve()
    assert house.head[Head.RELOADS] == 1


def test_exec_is_tried_only_after_the_check_and_the_dispatchers_end(house):
    house.ask(kind="exec")
    assert house.upgrades.phase is Phase.CHECKING
    house.upgrades.on_child(90, 2 << 8)
    assert house.outcome() == {"ok": False, "error": "fdpass 1 keeps serving: the last line"}
    house.estate.texts[Text.REASON] = "1"  # of an upgrade before
    house.ask(6, kind="exec")
    house.upgrades.on_child(90, 0)
    assert not house.outcome(6)["ok"]  # a program that is not fdpass, and ends with 0
    house.ask(8, kind="exec")
    house.estate.texts[Text.REASON] = "2"
    house.upgrades.on_child(90, 0)
    assert house.replaced == []
    house.end()
    assert house.replaced == [""]
    assert house.outcome(8)["error"] == "fdpass 1 keeps serving: cannot start python"
    assert house.serve() == 0


def test_the_next_keeper_reports_the_outcome_of_its_exec(house):
    request = {"number": 7, "kind": "exec", "python": "", "version": "1", "since": 1.0}
    house.estate.texts[Text.REQUEST] = json.dumps(request)
    house.head[Head.UPGRADING] = house.head[Head.ASKED] = house.head[Head.TAKEN] = 7
    house.upgrades = Upgrades(house.estate, Makers(house.estate, "2", lambda: None), house)
    house.upgrades.go_on()
    house.head[Head.SERVES] = 1_250_000_000
    assert house.serve() == 0
    assert house.outcome() == {"ok": True, "before": "1", "after": "2", "ms": 250.0}


def test_texts_are_cut_and_replaced():
    texts = Estate.private(1).texts
    texts[Text.REASON] = "ä" * 5000
    assert texts[Text.REASON].startswith("ä" * 2000)
    assert texts[Text.OUTCOME] == ""
    texts[Text.REASON] = "short"
    assert texts[Text.REASON] == "short"


def test_an_object_is_stored_whole_or_not_at_all():
    texts = Estate.private(1).texts
    texts.store_json(Text.REQUEST, {"python": "ä\x01\ud800"})
    assert texts.load_json(Text.REQUEST) == {"python": "ä\x01?"}
    with pytest.raises(ValueError, match="4088 are the most"):
        texts.store_json(Text.REQUEST, {"python": "x" * 4088})


@pytest.mark.parametrize("letter", ["x", "ä", "\x01", "\ud800", "\U0001f600"])
def test_a_long_reason_and_a_long_version_fit_into_the_outcome(house, letter):
    house.ask()
    house.be_ready(letter * 5000)
    house.end()
    for _ in range(3):
        house.estate.texts[Text.REASON] = letter * 5000
        house.fail()
    assert "rolled back" in house.outcome()["error"]
    house.serve()
    house.ask(8)
    house.estate.texts[Text.REASON] = letter * 5000
    house.upgrades.on_child(house.templates[-1], 1 << 8)
    assert "keeps serving" in house.outcome(8)["error"]


@pytest.mark.parametrize("is_over", [False, True])
def test_the_next_keeper_begins_without_an_upgrade(house, is_over):
    """It is a clone of the keeper, made while an upgrade was in progress."""
    house.ask()
    house.upgrades.request_by_signal()  # one more
    if is_over:
        house.head[Head.UPGRADING] = 0  # as the keeper has stored it since
    house.upgrades.forget()
    assert house.upgrades.phase is Phase.NONE
    house.upgrades.look()
    house.serve()
    assert house.upgrades.phase is Phase.NONE
    assert house.templates == [100]
