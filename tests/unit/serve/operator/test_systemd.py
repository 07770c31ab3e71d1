"""What the service manager hears: the words of sd_notify(3); nothing that it does can hinder the server."""

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

from fdpass.errors import CallFailed
from fdpass.serve.operator.systemd import Notifier
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


def test_ready_is_told_with_a_status(manager, notifier):
    notifier.ready("serving with 4 workers")
    assert heard(manager) == "READY=1\nSTATUS=serving with 4 workers"


def test_a_reload_is_told_with_its_time(manager, notifier):
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
def test_the_other_words(manager, notifier, tell, expected):
    tell(notifier)
    assert heard(manager) == expected


@given(text=st.text(st.characters(), max_size=100))
@settings(deadline=None)
def test_a_status_is_one_line_of_text_whatever_is_in_it(text):
    """It cannot say anything but itself: no other field, nothing that systemd would refuse."""
    address = f"\0{secrets.token_hex(8)}"
    with listening(address) as manager, closing(Notifier("@" + address[1:])) as notifier:
        notifier.status(text)
        told = heard(manager)
    assert told.startswith("STATUS=")
    assert not set(told) & {"\n", "\r", "\0"}
    assert len(told) <= len("STATUS=" + text)


def test_a_long_status_does_not_make_ready_unheard(manager, notifier):
    """systemd ignores a datagram of more than 4096 bytes."""
    notifier.ready("x" + "\u20ac" * 5000)
    told = manager.recv(10_000)
    assert len(told) <= 4096
    assert told.decode() == "READY=1\nSTATUS=x" + "\u20ac" * 682


def test_an_abstract_address():
    name = secrets.token_hex(8)
    with listening("\0" + name) as manager, closing(Notifier("@" + name)) as notifier:
        notifier.alive()
        assert heard(manager) == "WATCHDOG=1"


def test_without_an_address_nothing_is_told_and_nothing_opened():
    before = open_fds()
    notifier = Notifier(watchdog=5)
    notifier.ready("")
    notifier.alive()
    assert open_fds() == before
    assert notifier.watchdog is None
    notifier.close()


def test_an_address_of_an_unknown_kind_is_logged(caplog):
    notifier = Notifier("vsock:2:1", 5)
    notifier.ready("")
    assert "vsock:2:1" in caplog.text
    assert notifier.watchdog is None


def test_a_manager_that_does_not_listen_is_no_error_and_told_of_once(tmp_path, caplog):
    with closing(Notifier(str(tmp_path / "notify"))) as notifier:
        notifier.ready("")
        notifier.alive()
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        with listening(str(tmp_path / "notify")) as manager:
            notifier.alive()
            assert heard(manager) == "WATCHDOG=1"
        notifier.alive()
    assert len(caplog.records) == 2


def test_a_manager_that_comes_back_is_found_again(tmp_path):
    path = str(tmp_path / "notify")
    with closing(Notifier(path)) as notifier:
        for word in ("one", "two"):
            with listening(path) as manager:
                notifier.status(word)
                assert heard(manager) == f"STATUS={word}"
            os.unlink(path)


def test_a_manager_that_does_not_read_holds_up_nobody(manager, notifier, caplog):
    """Its queue takes some datagrams; a blocking send of the next would wait."""
    for _ in range(10_000):
        notifier.alive()
        if caplog.records:
            break
    assert "temporarily unavailable" in caplog.text


def test_an_address_too_long_for_a_socket_is_no_error(caplog):
    with closing(Notifier("/" + "x" * 200)) as notifier:
        notifier.alive()
    assert "too long" in caplog.text


def test_one_socket_serves_all_calls(manager):
    before = open_fds()
    notifier = Notifier(manager.getsockname())
    for _ in range(3):
        notifier.alive()
    assert len(open_fds()) == len(before) + 1
    notifier.close()
    assert open_fds() == before


def test_after_close_nothing_is_told(manager, notifier):
    notifier.close()
    notifier.close()
    notifier.alive()
    with pytest.raises(BlockingIOError):
        heard(manager)


def test_the_environment_says_whom_to_tell_and_how_often(manager):
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
def test_a_watchdog_is_on_only_if_it_is_ours_and_finite(manager, variables, expected):
    ours = {name: str(os.getpid()) if text == "self" else text for name, text in variables.items()}
    environ = {"NOTIFY_SOCKET": manager.getsockname(), **ours}
    with closing(Notifier.from_environment(environ)) as notifier:
        assert notifier.watchdog == expected
    assert environ == {}


def test_without_notify_socket_no_sign_of_life_is_due():
    environ = {"WATCHDOG_USEC": "3000000"}
    assert Notifier.from_environment(environ).watchdog is None
    assert environ == {}


def test_no_child_finds_the_variables(manager, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    with closing(Notifier.from_environment()):
        code = "import os; print([name for name in os.environ if name.startswith(('NOTIFY', 'WATCHDOG'))])"
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"[]\n"


def test_no_socket_at_the_start_is_told(monkeypatch):
    def full(*_):
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(socket, "socket", full)
    with pytest.raises(CallFailed, match="for the service manager"):
        Notifier("@x")
