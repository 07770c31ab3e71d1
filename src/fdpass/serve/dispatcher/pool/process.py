"""Start, watch and stop a child process: the only file of the server that does.

A child is a new program (exec), never a fork that goes on: it inherits standard streams, one channel, and
nothing else. It is in a process group of its own, so that Ctrl-C on a terminal reaches the dispatcher alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

from fdpass._errors import translated
from fdpass._fd import Fd


class Child:
    """A running child.

    Attributes:
        pid: Its number; it stays the child's until `reap`.
        pidfd: Readable once it has ended. Owned: closed by `reap`.
    """

    def __init__(self, popen: subprocess.Popen[bytes], pidfd: Fd) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.pidfd = pidfd

    def signal(self, number: int) -> None:
        """Send a signal. Nothing happens if it has ended."""
        try:
            signal.pidfd_send_signal(self.pidfd.fileno(), number)
        except ProcessLookupError:
            return

    def reap(self) -> int:
        """Wait for its end, and take its status: an exit code, or minus the number of the signal."""
        status = self._popen.wait()
        self.pidfd.close()
        return status


def start(module: str, channel: socket.socket, arguments: Sequence[str] = ()) -> Child:
    """Run a module of ours in a new interpreter.

    Args:
        module: Its name.
        channel: Lent: the child finds it at the number in its first argument.
        arguments: What follows that.

    Raises:
        CallFailed: fork, exec or pidfd_open(2) failed: EAGAIN (too many processes), ENOMEM, EMFILE.
    """
    number = channel.fileno()
    # -P: no module of the working directory may stand in for one that we, or the library, import.
    command = [sys.executable, "-P", "-m", module, str(number), *arguments]
    try:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(number,), process_group=0)
    except OSError as error:
        raise translated(error, f"cannot start {sys.executable}") from error
    try:
        return Child(popen, Fd(os.pidfd_open(popen.pid)))
    except OSError as error:
        popen.kill()
        popen.wait()
        raise translated(error, "cannot watch a child") from error


def resident(pid: int) -> int:
    """Bytes of memory that a process has resident; 0 if it has ended (proc(5), statm)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


_PAGE = os.sysconf("SC_PAGESIZE")


def ending(status: int) -> str:
    """What `Child.reap` returned, in words."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
