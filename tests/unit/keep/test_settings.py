"""When `fdpass keep` restarts its program, and with which code it exits."""

import signal

import pytest

from fdpass._keep.settings import exit_code, is_restarted


@pytest.mark.parametrize(
    ("status", "on_failure"),
    [
        (0, False),
        (1, True),
        (255, True),
        (None, True),
        (-signal.SIGTERM, False),
        (-signal.SIGINT, False),
        (-signal.SIGHUP, False),
        (-signal.SIGPIPE, False),
        (-signal.SIGKILL, True),
        (-signal.SIGSEGV, True),
        (-signal.SIGABRT, True),
    ],
)
def test_what_is_a_failure_is_what_systemd_says(status, on_failure):
    assert is_restarted("on-failure", status) is on_failure
    assert is_restarted("always", status)
    assert not is_restarted("no", status)


@pytest.mark.parametrize(
    ("status", "alone", "stopped"),
    [
        (0, 0, 0),
        (3, 3, 3),
        (-signal.SIGTERM, 143, 0),
        (-signal.SIGKILL, 137, 137),
        (-signal.SIGINT, 130, 130),
        (None, 1, 0),
    ],
)
def test_the_exit_code_is_the_programs(status, alone, stopped):
    """128 and the number of a signal; SIGTERM is a success if the program was told to stop."""
    assert exit_code(status, stopped=False) == alone
    assert exit_code(status, stopped=True) == stopped
