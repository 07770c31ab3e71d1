"""Signals that the dispatcher ignores, with a line in the log, or lets wait, instead of ending at once."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Container

from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")

_QUIET_SECONDS = 10.0  # for which a signal is not logged again: a profiler's timer sends hundreds a second

_UNTOUCHED = {
    *(signal.SIGKILL, signal.SIGSTOP),  # which no process can catch
    # Faults of this process; and SIGABRT, with which a service manager's watchdog asks for a core dump.
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS, signal.SIGABRT),
    *(signal.SIGTSTP, signal.SIGCONT),  # the job control of a shell: Ctrl-Z, fg
    *(signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH),  # which do nothing by default
}
_WHY: dict[int, str] = {signal.SIGUSR2: "an upgrade needs a keeper: restart the server, with --keeper on"}
_SILENT = {
    signal.SIGPIPE,
    signal.SIGXFSZ,
}  # the write that causes one fails, and a line about it could cause another


def hold() -> Callable[[], None]:
    """Let signals wait that would end this process before it can remove its socket files and its pidfile.

    SIGINT does not wait: it raises KeyboardInterrupt.

    Returns:
        A function that lets these signals act again. A second call does nothing.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _UNTOUCHED - {signal.SIGINT})

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return release


def handled() -> frozenset[int]:
    """The signals that a server with a keeper handles, or ignores: all but faults and job control."""
    return frozenset(signal.valid_signals() - _UNTOUCHED)


def do_nothing(number: int, frame: object) -> None:
    """Handle a signal that another process acts on. SIG_IGN would be inherited by programs that are started."""


def ignored(handled: Container[int]) -> dict[int, Callable[[], None]]:
    """Make a callback for each signal that would end this process without need.

    Args:
        handled: Signals that have a callback already.

    Returns:
        By signal, a callback that logs it. A signal that the program handles, or already ignores, has none.
    """
    caught = _caught()
    return {
        number: ignoring(number)
        for number in sorted(signal.valid_signals())
        if number not in _UNTOUCHED
        and number not in handled
        and number not in caught
        and signal.getsignal(number) == signal.SIG_DFL
    }


def ignoring(number: int) -> Callable[[], None]:
    """Make the callback of a signal that is ignored."""
    return _do_nothing if number in _SILENT else _Logged(number)


def _caught() -> set[int]:
    """Signals that have a handler, also one that C has set: `signal.getsignal` does not know faulthandler's."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            masks = [int(line.split()[1], 16) for line in file if line.startswith("SigCgt:")]
    except OSError:
        masks = []
    return {number for number in signal.valid_signals() for mask in masks if mask >> (number - 1) & 1}


class _Logged:
    """Logs that a signal has come and is ignored, once in ten seconds."""

    def __init__(self, number: int) -> None:
        self._name = name_of(number)
        self._why = _WHY.get(number, "the server does not use this signal")
        self._quiet_until = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            extra = about(Event.SIGNAL_IGNORED)
            log.warning("%s is ignored: %s", self._name, self._why, extra=extra)


def name_of(number: int) -> str:
    """The name of a signal: ``SIGUSR2``, ``SIGRTMIN+3``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _do_nothing() -> None:
    """The callback of a signal that is not logged."""
