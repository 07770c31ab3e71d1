"""Code that several verbs share: failures, time limits, text for a terminal, copying to standard output."""

from __future__ import annotations

import math
import os
import select
import time

import click

from fdpass._fd import Fd
from fdpass.errors import RequestFailed, StartFailed

_CHUNK = 1 << 20
_LONGEST = 1_000_000


class Failure(Exception):
    """A verb failed; the sentence says why, and what to do."""


def sentence(error: BaseException) -> str:
    """Write an exception as a sentence, without error numbers and class names."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error)
    if isinstance(error, StartFailed | RequestFailed):  # may have the lines of the application's traceback
        return "\n".join(map(printable, text.splitlines()))
    return printable(text)


def printable(text: str) -> str:
    """Escape everything that a terminal would obey or cannot show, in text from another source."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def seconds(value: str) -> float:
    """Parse the value of a time limit option. The bound keeps it within what poll(2) can wait for."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 <= found <= _LONGEST:
        raise click.BadParameter(f"{value!r} is not a number of seconds from 0 to {_LONGEST}.")
    return found


class Deadline:
    """One time limit for several waits."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Return the seconds left, for `settimeout`; None without a limit."""
        # Not 0: with it a socket does not wait, and fails with EAGAIN instead of a timeout.
        return None if self._end is None else max(0.001, self._end - time.monotonic())

    def passed(self) -> bool:
        """Whether no time is left."""
        return self._end is not None and time.monotonic() >= self._end


def copy_out(fd: Fd, *, from_start: bool = False) -> None:
    """Copy the content of a descriptor to standard output, until its end.

    Args:
        fd: Lent.
        from_start: Read a file from its start, without moving the offset that other processes share.

    Raises:
        Failure: The descriptor cannot be read, or standard output cannot be written.
        BrokenPipeError: The reader of standard output has closed it.
    """
    offset = 0 if from_start and fd.kind in {"file", "memfd", "block"} else None
    while chunk := _read(fd, offset):
        if offset is not None:
            offset += len(chunk)
        _write(chunk)


def _read(fd: Fd, offset: int | None) -> bytes:
    number = fd.fileno()
    while True:
        try:
            return os.read(number, _CHUNK) if offset is None else os.pread(number, _CHUNK, offset)
        except BlockingIOError:  # all holders share O_NONBLOCK, so it must not be changed
            _wait(number, select.POLLIN)
        except OSError as error:
            raise Failure(
                f"cannot read this descriptor ({fd.kind}): {error.strerror}; "
                "to use it in another way, give a command after --"
            ) from error


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(1, rest) :]
        except BlockingIOError:
            _wait(1, select.POLLOUT)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Failure(f"cannot write to standard output: {error.strerror}") from error


def _wait(number: int, event: int) -> None:
    poller = select.poll()
    poller.register(number, event)
    poller.poll()
