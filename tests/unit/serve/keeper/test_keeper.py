"""`Keeper`: what it does about dispatchers that end early, or as if they had been told to."""

import os
import signal
from types import SimpleNamespace

import pytest

from fdpass.errors import StartFailed
from fdpass.serve.keeper import keeper as keeper_file
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.keeper.keeper import Keeper
from fdpass.serve.keeper.requests import QUIESCED


class TemplatesDispatcher:
    """The keeper's part of upgrades, whose template makes one dispatcher, which ends at once."""

    def __init__(self):
        self.calls = []

    def make(self, has_ended):
        pid = os.posix_spawn("/bin/true", ["true"], {})
        while not has_ended(pid):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid

    def on_made(self, dispatcher, serial):
        self.calls.append("made")

    def on_gone(self):
        self.calls.append("gone")

    def on_child(self, pid, status):
        pass


def test_a_dispatcher_that_was_reaped_early_counts_as_gone():
    """Else the keeper would send signals to its number."""
    estate, upgrades = Estate.private(1), TemplatesDispatcher()
    keeper = Keeper(estate, None, signals=(), on_other=None, upgrades=upgrades, notices=None)
    keeper._make()
    assert upgrades.calls == ["made", "gone"]
    assert os.waitstatus_to_exitcode(keeper._wait()) == 0


class Exits75:
    """No upgrade is in progress, and the dispatcher exits with the code of one that quiesces."""

    phase = None
    is_awaited = has_served = False

    def __init__(self):
        self.failures = 0

    def make(self, has_ended):
        return os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {QUIESCED}"], {})

    def on_failure(self, status, *, hung):
        self.failures += 1
        return False

    def look(self):
        pass

    on_made = on_child = on_gone = on_dispatcher_end = lambda *_: None


def wait_for_child(*_):
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    return signal.SIGCHLD


def test_a_dispatcher_that_exits_as_if_it_had_quiesced_counts_as_a_failure(monkeypatch):
    monkeypatch.setattr(keeper_file, "wait_for_signal", wait_for_child)
    upgrades, estate = Exits75(), Estate.private(1)
    notices = SimpleNamespace(due=float("inf"), send=lambda: None)
    keeper = Keeper(estate, None, signals=(), on_other=None, upgrades=upgrades, notices=notices)
    with pytest.raises(StartFailed, match="8 dispatchers in a row"):
        keeper._make_all()
    assert upgrades.failures == 8
