"""What several verbs need: a failure in one sentence, a time limit, text fit for a terminal, copying out."""

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
    """The verb failed, and this sentence says at what and what to do."""


def sentence(error: BaseException) -> str:
    """What an exception says, without numbers and class names."""
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        said = str(error)
    if isinstance(error, StartFailed | RequestFailed):  # the application's traceback may follow
        return "\n".join(map(printable, said.splitlines()))
    return printable(said)


def printable(text: str) -> str:
    """Text from elsewhere, with everything escaped that a terminal would obey or could not show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def seconds(value: str) -> float:
    """A time limit, as the type of an option; what poll(2) can wait for bounds it to some weeks."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 <= found <= _LONGEST:
        raise click.BadParameter(f"{value!r} is not a number of seconds from 0 to {_LONGEST}.")
    return found


class Deadline:
    """A limit on all waiting together."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """Seconds to wait, for `settimeout`; None is for ever."""
        # Not 0, at which a socket would not wait and would report EAGAIN instead of a timeout.
        return None if self._end is None else max(0.001, self._end - time.monotonic())

    def passed(self) -> bool:
        """Whether there is no time left."""
        return self._end is not None and time.monotonic() >= self._end


def copy_out(fd: Fd, *, from_start: bool = False) -> None:
    """Copy what a descriptor holds to standard output, until its end.

    Args:
        fd: Lent.
        from_start: Read a file from its start, without moving the offset that others share.

    Raises:
        Failure: It cannot be read.
        BrokenPipeError: Nobody reads standard output any more.
    """
    place = 0 if from_start and fd.kind in {"file", "memfd", "block"} else None
    while part := _read(fd, place):
        if place is not None:
            place += len(part)
        _write(part)


def _read(fd: Fd, place: int | None) -> bytes:
    number = fd.fileno()
    while True:
        try:
            return os.read(number, _CHUNK) if place is None else os.pread(number, _CHUNK, place)
        except BlockingIOError:  # O_NONBLOCK belongs to every holder: wait, rather than change it
            _wait(number, select.POLLIN)
        except OSError as error:
            raise Failure(
                f"cannot read this descriptor ({fd.kind}): {error.strerror}; "
                "to use it otherwise, give a command after --"
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
