"""The standard streams of the command: closed ones, full ones, and ones that cannot show every character."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any

import click

CLOSED: set[int] = set()
"""Numbers of the standard streams that were closed when the command started."""


class OutputFailed(Exception):
    """Standard output cannot be written.

    Attributes:
        broken: True if it is a pipe or a socket whose reader has closed it.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.broken = isinstance(error, BrokenPipeError)


def prepare() -> None:
    """Fill closed standard streams, and make text streams that report failures and escape unknown characters."""
    _fill()
    if sys.stdout is sys.__stdout__:  # else a test or another program has replaced it
        sys.stdout = _text_stream(sys.stdout)
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def _fill() -> None:
    """Open /dev/null at closed standard streams: else a received descriptor could get the number of one."""
    # The use of the first two still fails. What is written to standard error is lost, as it was.
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            CLOSED.add(number)
            os.open(os.devnull, mode)  # takes the lowest free number: this one


def _text_stream(old: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(1, "w", closefd=False)),
        encoding=getattr(old, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=getattr(old, "line_buffering", False),
        write_through=getattr(old, "write_through", False),
    )


class _Output(io.FileIO):
    """Standard output without a buffer; raises `OutputFailed`."""

    def write(self, data: Any) -> int:
        return write(data)


def write(data: Any) -> int:
    """Write once to standard output; waits for room. Returns how many bytes were written.

    Raises:
        OutputFailed: Standard output cannot be written.
    """
    while True:
        try:
            return os.write(1, data)
        except BlockingIOError:  # all holders share O_NONBLOCK, so it must not be changed
            wait(1, select.POLLOUT)
        except OSError as error:
            raise OutputFailed(error) from error


def wait(number: int, event: int) -> None:
    """Wait until poll(2) reports an event of a descriptor."""
    poller = select.poll()
    poller.register(number, event)
    poller.poll()


def printable(text: str) -> str:
    """Escape everything that a terminal would obey or cannot show, in text from another source."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_background() -> bool:
    """Whether a shell runs this process in the background of the terminal of standard error."""
    try:
        return os.tcgetpgrp(2) != os.getpgrp()
    except OSError:  # ENOTTY: not the controlling terminal of this process, so no shell runs jobs there
        return False


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line; a standard error that cannot be written is ignored.

    click on its own writes UTF-8 to a stream whose encoding is ASCII.
    """
    if not err:
        click.echo(text, file=sys.stdout)
        return
    try:
        click.echo(text, file=sys.stderr, err=True)
    except OSError:
        discard(2)


def echo_error(error: click.ClickException) -> None:
    """Print an error to standard error, if it can be written."""
    try:
        error.show(file=sys.stderr)
        sys.stderr.flush()
    except (OSError, ValueError):
        discard(2)


def discard(number: int) -> None:
    """Make /dev/null a standard stream that cannot be written: else the interpreter's last flush would fail."""
    with contextlib.suppress(OSError), open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), number)
