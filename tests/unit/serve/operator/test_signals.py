"""Signals that the dispatcher ignores: all that would end it, and that nobody handles."""

import faulthandler
import logging
import signal

import pytest

from fdpass.serve.operator import signals

HANDLED = {signal.SIGTERM, signal.SIGHUP}


def test_every_signal_that_would_end_the_process_and_can_be_caught_is_ignored():
    ends = {signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGVTALRM, signal.SIGIO, signal.SIGXCPU}
    ends |= {signal.SIGPWR, signal.SIGSTKFLT, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)}
    assert ends <= set(signals.ignored(HANDLED))


def test_signals_of_faults_job_control_and_those_that_do_nothing_are_left_alone():
    left = {signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGABRT, signal.SIGTSTP, signal.SIGCONT}
    left |= {signal.SIGCHLD, signal.SIGWINCH}
    assert not (left | HANDLED) & set(signals.ignored(HANDLED))


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "handled"])
def test_a_signal_that_the_program_handles_or_ignores_is_left_alone(handler):
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        assert signal.SIGUSR2 not in signals.ignored(HANDLED)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_that_faulthandler_handles_is_left_alone():
    faulthandler.register(signal.SIGUSR2)
    try:
        assert signal.SIGUSR2 not in signals.ignored(HANDLED)
    finally:
        faulthandler.unregister(signal.SIGUSR2)
    assert signal.SIGUSR2 in signals.ignored(HANDLED)


def test_an_ignored_signal_is_logged_once_in_ten_seconds(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "fdpass.serve")
    now = 1000.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: now)
    found = signals.ignored(HANDLED)
    for _ in range(3):
        found[signal.SIGXCPU]()
    found[signal.SIGRTMIN + 3]()
    assert [record.getMessage() for record in caplog.records] == [
        "SIGXCPU is ignored: the server does not use this signal",
        "SIGRTMIN+3 is ignored: the server does not use this signal",
    ]
    now += 11
    found[signal.SIGXCPU]()
    assert len(caplog.records) == 3


def test_sigpipe_is_not_logged_because_the_log_can_be_the_pipe(caplog):
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        signals.ignored(HANDLED)[signal.SIGPIPE]()
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert not caplog.records
