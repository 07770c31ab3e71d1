"""``fdpass send``: open files, and send their descriptors in one message to the process that listens."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import stat
import time
from types import FrameType

import click

from fdpass import MAX_FDS, send_fds
from fdpass._cli.common import Deadline, Failure, check_socket_path, seconds
from fdpass._cli.progress import waiting
from fdpass._cli.streams import CLOSED
from fdpass._errors import translated
from fdpass._fd import Fd
from fdpass._sockets import address_of
from fdpass.errors import Timeout

_NO_LISTENER = {errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN}
_TYPES = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)
_SHORTEST = 0.1  # seconds for open(2), which waits for nothing if the other end of a FIFO is open
_PAUSE_MIN, _PAUSE_MAX = 0.01, 0.25  # seconds between two attempts to connect
_MAX_TEXT = 32768  # the kernel splits a send on a stream into parts of about this size


@click.command(
    epilog="""Examples:

\b
  fdpass send /tmp/s notes.txt               to `fdpass recv /tmp/s` in another terminal
  fdpass send /tmp/s --mode a log            the receiver may append to log
  fdpass send /tmp/s --wait 10 a b -- -c     waits for a listener; -c is a file
  dmesg | fdpass send /tmp/s -               the receiver reads from the pipe"""
)
@click.argument("socket_path", metavar="SOCKET")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--mode",
    type=click.Choice(["r", "w", "rw", "a"]),
    default="r",
    show_default=True,
    help="How to open each FILE.",
)
@click.option("--message", metavar="TEXT", default="", help="Text to send with the descriptors.")
@click.option(
    "--wait",
    type=seconds,
    default=0,
    help="Wait at most this long for a listener at SOCKET, and for the other end of a FIFO.",
)
def send(socket_path: str, files: tuple[str, ...], mode: str, message: str, wait: float) -> None:
    """Send open FILEs to the process that listens at SOCKET.

    All descriptors are in one message (SCM_RIGHTS), so any program that receives such messages can be the
    receiver. A FILE of - is standard input. A SOCKET that starts with @ is an abstract address.

    Exit code 0 means that the message is in the receiver's queue. Mode w empties or creates a FILE once SOCKET has
    a listener.
    """
    text = os.fsencode(message)
    if len(files) > MAX_FDS:
        raise click.UsageError(f"One message carries at most {MAX_FDS} files, not {len(files)}.")
    if len(text) > _MAX_TEXT:
        raise click.UsageError(f"--message has {len(text)} bytes, and at most {_MAX_TEXT} fit: send it as a FILE.")
    if "-" in files and 0 in CLOSED:
        raise Failure("standard input is closed, so there is nothing to send for -")
    check_socket_path(socket_path)
    deadline = Deadline(wait)
    with contextlib.ExitStack() as held:
        # Modes w and a change files, which are opened once there is a listener; the others are opened before, to
        # fail early.
        fds = _opened(files, mode, deadline, held) if mode in {"r", "rw"} else []
        sock = held.enter_context(_connected(socket_path, deadline))
        fds = fds or _opened(files, mode, deadline, held)
        sock.settimeout(deadline.left())
        try:
            with contextlib.nullcontext() if _has_room(sock) else waiting(f"waiting for room at {socket_path}"):
                send_fds(sock, text or b"\0", fds)
        except Timeout as error:
            raise Failure(
                f"{socket_path}: the receiver's queue is full; try again, or use --wait SECONDS"
            ) from error


def _has_room(sock: socket.socket) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLOUT)
    return bool(poller.poll(0))


def _opened(files: tuple[str, ...], mode: str, deadline: Deadline, held: contextlib.ExitStack) -> list[Fd | int]:
    return [0 if path == "-" else held.enter_context(_open(path, mode, deadline)) for path in files]


def _open(path: str, mode: str, deadline: Deadline) -> Fd:
    """Open a file; open(2) of a FIFO waits for the other end, and only a signal interrupts it."""
    if not _is_fifo(path):
        return Fd.open(path, mode)
    other = "reading" if mode in {"w", "a"} else "writing"
    previous = signal.signal(signal.SIGALRM, _time_is_up)
    try:
        with contextlib.nullcontext() if deadline.passed() else waiting(f"waiting until a process opens {path}"):
            try:
                signal.setitimer(signal.ITIMER_REAL, max(deadline.left() or 0, _SHORTEST))
                return Fd.open(path, mode)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except _TimeIsUp as error:
        raise Failure(
            f"{path}: no process has the FIFO open for {other}; start that process first, or use --wait SECONDS"
        ) from error
    finally:
        signal.signal(signal.SIGALRM, previous)


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


class _TimeIsUp(Exception):
    """The alarm has rung."""


def _time_is_up(_: int, __: FrameType | None) -> None:
    raise _TimeIsUp


def _connected(path: str, deadline: Deadline) -> socket.socket:
    """Connect to the listener; try again at growing intervals, because no event reports a new listener."""
    pause = _PAUSE_MIN
    with contextlib.ExitStack() as shown:
        while True:
            try:
                return _connect(path)
            except OSError as error:
                if error.errno not in _NO_LISTENER:
                    raise translated(error, f"cannot connect to {path}") from error
                if deadline.passed():
                    raise Failure(_no_listener(path, error)) from error
            if pause == _PAUSE_MIN:
                shown.enter_context(waiting(f"waiting for a listener at {path}"))
            time.sleep(min(pause, deadline.left() or 0))
            pause = min(pause * 1.5, _PAUSE_MAX)


def _connect(path: str) -> socket.socket:
    address = address_of(path)
    for kind in _TYPES:
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            sock.setblocking(False)
            sock.connect(address)
            sock.setblocking(True)
        except OSError as error:
            sock.close()
            if error.errno != errno.EPROTOTYPE or kind == _TYPES[-1]:
                raise
        else:
            return sock
    raise AssertionError("the last type either connects or raises")


def _no_listener(path: str, error: OSError) -> str:
    if error.errno == errno.EAGAIN:
        return f"{path}: the listener has no room for another connection; try again, or use --wait SECONDS"
    return f"{path}: no process listens there; start the receiver first (fdpass recv), or use --wait SECONDS"
