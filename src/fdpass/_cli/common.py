"""Code that several verbs share: failures, time limits, text for a terminal, copying to standard output."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import stat
import time

import click

from fdpass._cli.progress import Copying
from fdpass._cli.streams import printable, wait, write
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


def seconds(value: str) -> float:
    """Parse the value of a time limit option. The bound keeps it within what poll(2) can wait for."""
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not 0 <= found <= _LONGEST:
        raise click.BadParameter(f"{value!r} is not a number of seconds from 0 to {_LONGEST}.")
    return found


_NO_SOCKET = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_socket_path(path: str) -> None:
    """Raise `Failure` if another kind of file has the path of a socket."""
    if path.startswith("@"):
        return
    try:
        kind = _NO_SOCKET.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):  # reported when the path is used
        return
    if kind:
        raise Failure(f"{path} is {kind}, not a socket: give the path of a socket, such as /tmp/s")


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
    """Copy the content of a descriptor to standard output: of a file up to its present size, else to its end.

    Args:
        fd: Lent.
        from_start: Read a file from its start, without moving the offset that other processes share. If it is open
            for writing only, open it anew for reading.

    Raises:
        Failure: The descriptor cannot be read, or is what standard output writes to.
        OutputFailed: Standard output cannot be written.
    """
    kind = fd.kind
    if kind in {"file", "memfd", "block", "pipe"} and _is_standard_output(fd):
        raise Failure(f"this descriptor ({kind}) is the standard output, too: the copy would have no end")
    if from_start and kind in {"file", "memfd", "block"}:
        with _readable(fd) as file:
            _copy(file, kind, 0)
    else:
        _copy(fd, kind, None)


def _is_standard_output(fd: Fd) -> bool:
    try:
        ours, output = os.fstat(fd.fileno()), os.fstat(1)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (output.st_dev, output.st_ino)


def _readable(fd: Fd) -> Fd:
    """Return a descriptor of the same file that can be read; the caller owns it."""
    if fcntl.fcntl(fd.fileno(), fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH) in {os.O_RDONLY, os.O_RDWR}:
        return fd.dup()
    try:
        # A link in /proc leads to the file itself, which may have no name any more: proc_pid_fd(5).
        return Fd(os.open(f"/proc/self/fd/{fd.fileno()}", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise Failure(
            f"this descriptor ({fd.kind}) is open for writing only, and its file cannot be opened for reading: "
            f"{error.strerror}"
        ) from error


def _copy(fd: Fd, kind: str, offset: int | None) -> None:
    left = _bytes_left(fd, kind, offset)
    with Copying(left) as copying:
        while chunk := _read(fd, kind, offset, _CHUNK if left is None else min(_CHUNK, left)):
            if offset is not None:
                offset += len(chunk)
            if left is not None:
                left -= len(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[write(rest) :]
            copying.add(len(chunk))


def _bytes_left(fd: Fd, kind: str, offset: int | None) -> int | None:
    """How many bytes a file has from its offset on; None if that is not known."""
    size = os.fstat(fd.fileno()).st_size
    if kind not in {"file", "memfd"} or size == 0:  # a file in /proc has the size 0
        return None
    position = os.lseek(fd.fileno(), 0, os.SEEK_CUR) if offset is None else offset
    return max(0, size - position)


def _read(fd: Fd, kind: str, offset: int | None, size: int) -> bytes:
    number = fd.fileno()
    while True:
        try:
            return os.read(number, size) if offset is None else os.pread(number, size, offset)
        except BlockingIOError:  # all holders share O_NONBLOCK, so it must not be changed
            wait(number, select.POLLIN)
        except OSError as error:
            reason = "it is not open for reading" if error.errno == errno.EBADF else error.strerror
            raise Failure(
                f"cannot read this descriptor ({kind}): {reason}; "
                "to use it in another way, give a command after --"
            ) from error
