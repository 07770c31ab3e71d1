"""`Upgrades` in a dispatcher: a request reaches the keeper once, and each client gets its outcome."""

import json
import os
from types import SimpleNamespace

import pytest

from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.requests import NOTICE, QUIESCED
from fdpass.serve.keeper.texts import Text
from fdpass.serve.operator import upgrades
from fdpass.serve.operator.upgrades import Upgrades

ASKED = {"number": 7, "kind": "dispatcher"}


class Exited(Exception):
    pass


class House:
    def __init__(self, monkeypatch, estate):
        if estate is not None:
            estate.head[Head.KEEPER] = os.getppid()
        self.estate, self.busy, self.saved, self.sent, self.due = estate, False, 0, [], []
        self.pool = SimpleNamespace(stopping=False)
        self.keeper = 5
        monkeypatch.setattr(upgrades.os, "kill", lambda *sent: self.sent.append(sent))
        monkeypatch.setattr(upgrades.os, "_exit", self._exit)
        self.upgrades = Upgrades(self, self, estate, lambda: self.busy)

    def _exit(self, code):
        raise Exited(code)

    def call_later(self, _, callback):
        self.due.append(callback)

    def save(self):
        self.saved += 1

    def ask(self, **request):
        replies = []
        self.upgrades.request(request, replies.append)
        (reply,) = replies
        return reply.get("error", "")

    def outcome(self, number=7):
        replies = []
        self.upgrades.outcome({"number": number}, replies.append)
        return replies


@pytest.fixture
def house(monkeypatch):
    return House(monkeypatch, Estate.private(1))


def test_a_request_reaches_the_keeper_once(house):
    assert house.ask(**ASKED) == ""
    assert house.ask(**ASKED) == ""  # repeated by a client whose dispatcher has died before it replied
    assert house.sent == [(5, NOTICE)]
    assert json.loads(house.estate.texts[Text.REQUEST]) == {**ASKED, "python": ""}
    assert "another upgrade is in progress" in house.ask(number=8, kind="exec")
    house.estate.head[Head.TAKEN], house.estate.head[Head.UPGRADING] = 7, 7
    assert "another upgrade is in progress" in house.ask(number=8, kind="exec")


@pytest.mark.parametrize("number", [0, -1, None, [], True, 2**70])
def test_a_number_that_no_upgrade_has(house, number):
    assert "does not know the outcome" in house.outcome(number)[0]["error"]


def test_a_client_gets_the_outcome_of_its_own_upgrade(house):
    house.ask(**ASKED)
    waiting = house.outcome()
    house.upgrades.act()
    assert waiting == []
    house.estate.texts[Text.OUTCOME] = '{"ok": true, "ms": 1.0}'
    house.estate.head[Head.ANSWERED] = 7
    house.upgrades.act()
    assert waiting == house.outcome() == [{"ok": True, "ms": 1.0}]
    assert "does not know the outcome" in house.outcome(8)[0]["error"]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({}, "has a number"),
        ({**ASKED, "number": 0}, "has a number"),
        ({**ASKED, "number": 2**63}, "has a number"),
        ({**ASKED, "number": True}, "has a number"),
        ({**ASKED, "kind": "all"}, "has a number"),
        ({**ASKED, "kind": []}, "has a number"),
        ({**ASKED, "python": "x" * 2000}, "has at most 500"),
        ({**ASKED, "python": 3}, "has at most 500"),
    ],
)
def test_nonsense_is_refused(house, request_, why):
    assert why in house.ask(**request_)
    assert not house.estate.head[Head.ASKED]


def test_without_a_keeper_and_during_a_stop_it_is_refused(house, monkeypatch):
    house.pool.stopping = True
    assert house.ask(**ASKED) == "the server is stopping"
    alone = House(monkeypatch, None)
    assert "restart the server, with --keeper on" in alone.ask(**ASKED)
    assert "restart the server, with --keeper on" in alone.outcome()[0]["error"]
    alone.upgrades.act()


def test_the_dispatcher_ends_once_no_client_waits_for_another_outcome(house):
    house.busy = True
    house.estate.head[Head.QUIESCE] = 1
    house.upgrades.act()
    house.upgrades.act()  # another signal
    assert len(house.due) == 1
    house.due.pop()()
    assert not house.saved
    house.busy = False
    with pytest.raises(Exited, match=str(QUIESCED)):
        house.due.pop()()
    assert house.saved == 1
    assert house.estate.head[Head.QUIESCED] > 0


@pytest.mark.parametrize("by", ["stop", "keeper"])
def test_an_upgrade_that_is_given_up_lets_the_dispatcher_serve(house, by):
    house.busy = True
    house.estate.head[Head.QUIESCE] = 1
    house.upgrades.act()
    house.busy = False
    if by == "stop":
        house.pool.stopping = True
    else:
        house.estate.head[Head.QUIESCE] = 0
    house.due.pop()()
    assert not house.due
    assert not house.saved


@pytest.mark.parametrize("python", ["/p" + "\0", "/" + "p" * 500, "/\ud800", 5, None])
def test_a_path_that_cannot_be_one_is_refused(house, python):
    assert "the path of the interpreter has" in house.ask(number=7, kind="exec", python=python)
    assert house.sent == []


@pytest.mark.parametrize("letter", ["p", "ä", "\x01", "\U0001f600"])
def test_each_path_that_is_taken_reaches_the_keeper_whole(house, letter):
    request = {"number": 2**63 - 1, "kind": "exec", "python": letter * 500}
    assert house.ask(**request) == ""
    assert house.estate.texts.load_json(Text.REQUEST) == request


def test_a_keeper_that_has_just_ended_is_no_fault_of_the_request(house, monkeypatch):
    def kill(*_):
        raise ProcessLookupError

    monkeypatch.setattr(upgrades.os, "kill", kill)
    assert house.ask(**ASKED) == ""


def test_a_dispatcher_whose_keeper_has_ended_does_not_end(house):
    """Nobody would make the next one."""
    house.estate.head[Head.KEEPER] = 1 if os.getppid() != 1 else 2
    house.estate.head[Head.QUIESCE] = 1
    house.upgrades.act()
    assert not house.due
    assert not house.saved
