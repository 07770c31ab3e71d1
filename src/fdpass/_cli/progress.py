"""What a person sees while a command waits or copies: one line on the terminal, which rich draws and removes.

Nothing is shown without rich, if standard error is no terminal, if this process is in the terminal's background,
or if standard output is a pipe or a socket: its reader may write to the same terminal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from fdpass._cli.signals import stop_on
from fdpass._cli.streams import in_background, printable

if TYPE_CHECKING:
    from rich.progress import Progress

DELAY = 0.5
"""Seconds after which a copy of known size shows its progress."""


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show what the command waits for, and for how long it has waited."""
    with contextlib.ExitStack() as shown:
        if _visible():
            _show(shown, text, None)
        yield


class Copying:
    """The progress of a copy to standard output. A context manager.

    A copy to a terminal shows nothing but the data.

    Args:
        total: The number of bytes, or None if nobody knows it: then the copy is shown at once, as it may wait.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._copied = 0
        self._shown = contextlib.ExitStack()
        self._progress: Progress | None = None
        self._due = time.monotonic() + (DELAY if total is not None else 0)
        if not _visible() or os.isatty(1):
            self._due = float("inf")

    def __enter__(self) -> Self:
        self.add(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def add(self, copied: int) -> None:
        """Count bytes that were copied."""
        self._copied += copied
        if self._progress is None and time.monotonic() >= self._due:
            self._due = float("inf")
            self._progress = _show(self._shown, "copying", self._total, of_bytes=True)
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=self._copied)


def _visible() -> bool:
    try:
        output = os.fstat(1).st_mode
        return sys.stderr.isatty() and not (stat.S_ISFIFO(output) or stat.S_ISSOCK(output) or in_background())
    except (OSError, ValueError):  # ValueError: a test has closed sys.stderr
        return False


def _show(shown: contextlib.ExitStack, text: str, total: int | None, *, of_bytes: bool = False) -> Progress | None:
    """Draw a line until ``shown`` is closed; None if rich is not installed."""
    try:
        from fdpass._cli.progress_line import line  # noqa: PLC0415 - rich may be missing
    except ImportError:
        return None
    drawn = line(printable(text), total, of_bytes=of_bytes)
    stop_on(signal.SIGTERM, signal.SIGHUP)  # by an exception, so that the line is removed
    shown.callback(_stop, drawn)
    # rich's thread must get no signal: the system call in which the main thread waits would go on.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        drawn.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return drawn


def _stop(drawn: Progress) -> None:
    with contextlib.suppress(OSError):  # the terminal is gone
        drawn.stop()
