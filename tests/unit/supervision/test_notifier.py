"""Notifications as sd_notify(3) describes them; no service manager can block the server."""

import logging
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdpass._supervision.notifier import Notifier
from fdpass.errors import CallFailed
from fdpass.testing import open_fds


def listening(address):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind(address)
    return sock


@pytest.fixture
def manager(tmp_path):
    with listening(str(tmp_path / "notify")) as sock:
        yield sock


@pytest.fixture
def notifier(manager):
    with closing(Notifier(manager.getsockname())) as made:
        yield made


def heard(manager):
    return manager.recv(10_000).decode()


def test_ready_is_sent_with_a_status(manager, notifier):
    notifier.ready("serving with 4 workers")
    assert heard(manager) == "READY=1\nSTATUS=serving with 4 workers"


def test_a_reload_is_sent_with_its_time(manager, notifier):
    """CLOCK_MONOTONIC in microseconds, by which systemd tells this reload from one before."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", heard(manager))
    assert before <= int(found[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("tell", "expected"),
    [
        (lambda notifier: notifier.stopping(), "STOPPING=1"),
        (lambda notifier: notifier.alive(), "WATCHDOG=1"),
        (lambda notifier: notifier.status("draining"), "STATUS=draining"),
    ],
    ids=["stopping", "alive", "status"],
)
def test_stopping_watchdog_and_status_are_sent_as_sd_notify_has_them(manager, notifier, tell, expected):
    tell(notifier)
    assert heard(manager) == expected


@given(text=st.text(st.characters(), max_size=100))
@settings(deadline=None)
def test_a_status_is_one_line_whatever_characters_it_has(text):
    """It cannot say anything but itself: no other field, nothing that systemd would refuse."""
    address = f"\0{secrets.token_hex(8)}"
    with listening(address) as manager, closing(Notifier("@" + address[1:])) as notifier:
        notifier.status(text)
        told = heard(manager)
    assert told.startswith("STATUS=")
    assert not set(told) & {"\n", "\r", "\0"}
    assert len(told) <= len("STATUS=" + text)


def test_a_long_status_is_cut_so_that_ready_arrives(manager, notifier):
    """systemd ignores a datagram of more than 4096 bytes."""
    notifier.ready("x" + "\u20ac" * 5000)
    told = manager.recv(10_000)
    assert len(told) <= 4096
    assert told.decode() == "READY=1\nSTATUS=x" + "\u20ac" * 682


def test_an_abstract_address_is_supported():
    name = secrets.token_hex(8)
    with listening("\0" + name) as manager, closing(Notifier("@" + name)) as notifier:
        notifier.alive()
        assert heard(manager) == "WATCHDOG=1"


def test_without_an_address_nothing_is_sent_and_nothing_opened():
    before = open_fds()
    notifier = Notifier(watchdog=5)
    notifier.ready("")
    notifier.alive()
    assert open_fds() == before
    assert notifier.watchdog is None
    notifier.close()


def test_an_address_of_an_unknown_kind_is_logged_and_ignored(caplog):
    notifier = Notifier("vsock:2:1", 5)
    notifier.ready("")
    assert "vsock:2:1" in caplog.text
    assert notifier.watchdog is None


def test_a_manager_that_does_not_listen_is_logged_once(tmp_path, caplog):
    with closing(Notifier(str(tmp_path / "notify"))) as notifier:
        notifier.ready("")
        notifier.alive()
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        with listening(str(tmp_path / "notify")) as manager:
            notifier.alive()
            assert heard(manager) == "WATCHDOG=1"
        notifier.alive()
    assert len(caplog.records) == 2


def test_a_manager_that_listens_again_gets_notifications_again(tmp_path):
    path = str(tmp_path / "notify")
    with closing(Notifier(path)) as notifier:
        for word in ("one", "two"):
            with listening(path) as manager:
                notifier.status(word)
                assert heard(manager) == f"STATUS={word}"
            os.unlink(path)


def test_a_manager_that_does_not_read_does_not_block_the_server(manager, notifier, caplog):
    """Its queue takes some datagrams; a blocking send of the next would wait."""
    for _ in range(10_000):
        notifier.alive()
        if caplog.records:
            break
    assert "temporarily unavailable" in caplog.text


def test_an_address_too_long_for_a_socket_raises_nothing(caplog):
    with closing(Notifier("/" + "x" * 200)) as notifier:
        notifier.alive()
    assert "too long" in caplog.text


def test_all_notifications_use_one_socket(manager):
    before = open_fds()
    notifier = Notifier(manager.getsockname())
    for _ in range(3):
        notifier.alive()
    assert len(open_fds()) == len(before) + 1
    notifier.close()
    assert open_fds() == before


def test_after_close_nothing_is_sent(manager, notifier):
    notifier.close()
    notifier.close()
    notifier.alive()
    with pytest.raises(BlockingIOError):
        heard(manager)


def test_address_and_watchdog_come_from_the_environment(manager):
    environ = {
        "NOTIFY_SOCKET": manager.getsockname(),
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "OTHER": "stays",
    }
    with closing(Notifier.from_environment(environ)) as notifier:
        notifier.alive()
    assert heard(manager) == "WATCHDOG=1"
    assert notifier.watchdog == 15
    assert environ == {"OTHER": "stays"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1"}, 5e-7),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "x"}, None),
        ({"WATCHDOG_PID": "self"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": str(2**64 - 1)}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "1.5"}, None),
        ({"WATCHDOG_USEC": "\u0663"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
    ],
)
def test_the_watchdog_is_on_only_for_this_process_and_a_finite_time(manager, variables, expected):
    ours = {name: str(os.getpid()) if text == "self" else text for name, text in variables.items()}
    environ = {"NOTIFY_SOCKET": manager.getsockname(), **ours}
    with closing(Notifier.from_environment(environ)) as notifier:
        assert notifier.watchdog == expected
    assert environ == {}


def test_without_notify_socket_there_is_no_watchdog():
    environ = {"WATCHDOG_USEC": "3000000"}
    assert Notifier.from_environment(environ).watchdog is None
    assert environ == {}


def test_children_do_not_inherit_the_variables(manager, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    with closing(Notifier.from_environment()):
        code = "import os; print([name for name in os.environ if name.startswith(('NOTIFY', 'WATCHDOG'))])"
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"[]\n"


def test_a_failure_to_make_the_socket_is_raised(monkeypatch):
    def full(*_):
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(socket, "socket", full)
    with pytest.raises(CallFailed, match="for the service manager"):
        Notifier("@x")
