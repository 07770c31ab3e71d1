"""How many descriptors fit into the store, and the variables of the program."""

import os
import resource

import pytest

from fdpass._keep import limits
from fdpass._keep.environment import environment
from fdpass._keep.limits import make_room
from fdpass.errors import ConfigError

INFINITY = resource.RLIM_INFINITY


@pytest.fixture
def limit(monkeypatch):
    """``limit(soft, hard)`` makes a limit, and returns what is set afterwards."""

    def make(soft, hard):
        raised = []
        monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (soft, hard))
        monkeypatch.setattr(limits.resource, "setrlimit", lambda _, found: raised.append(found))
        return raised

    return make


@pytest.mark.parametrize(
    ("limits_before", "wanted", "listeners", "room"),
    [
        ((1024, 524288), None, 2, (512, 1024)),
        ((1024, 524288), 4000, 2, (4000, 4258)),
        ((256, 1024), None, 0, (512, 768)),
        ((256, 512), None, 1, (130, 387)),
        ((64, 64), None, 0, (0, 256)),
        ((64, 64), 0, 0, (0, 256)),
        ((1024, INFINITY), None, 0, (512, 1024)),
        ((INFINITY, INFINITY), None, 0, (512, INFINITY)),
    ],
)
def test_the_store_has_512_places_or_what_fits_or_what_is_wanted(limit, limits_before, wanted, listeners, room):
    """The program has room for 256 files more than it can be given."""
    raised = limit(*limits_before)
    hard = limits_before[1]
    assert make_room(wanted, listeners) == room
    assert raised == [(2**20 if hard == INFINITY else hard, hard)]


def test_a_store_that_cannot_fit_is_refused_with_the_numbers(limit):
    raised = limit(1024, 1024)
    with pytest.raises(ConfigError, match=r"--store-max 644 cannot fit: .* 1024 open files .* needs 381"):
        make_room(644, 0)
    assert raised == []
    assert make_room(643, 0).store == 643


def test_variables_of_this_processs_own_manager_are_left_out(monkeypatch):
    names = ("NOTIFY_SOCKET", "FDSTORE", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
    for name in names:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WATCHDOG_USEC", "5")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    monkeypatch.setenv("OTHER", "kept")
    found = environment()
    assert not found.keys() & {*names, "WATCHDOG_PID"}
    assert (found["WATCHDOG_USEC"], found["OTHER"]) == ("5", "kept")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert "WATCHDOG_USEC" not in environment()
