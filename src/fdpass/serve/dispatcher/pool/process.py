"""Start, watch and reap a worker's process: the only file of the dispatcher that does.

A child is a new program (exec), never a fork that goes on: it inherits the standard streams and one channel. It is
in a process group of its own, so that Ctrl-C on a terminal reaches the dispatcher alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from fdpass._errors import translated
from fdpass._fd import Fd

_PATIENCE_MS = 200  # the keeper does nothing but wait, and so is fast
_PAGE_SIZE = os.sysconf("SC_PAGESIZE")


class Child:
    """A running child process.

    Attributes:
        pid: Its process number, which no other process can get before `reap`.
        pidfd: Readable once the process has ended. Owned: `reap` closes it.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes] | None,
        pidfd: Fd,
        pid: int,
        status_of: Callable[[int], int | None] = lambda _: None,
    ) -> None:
        self._popen = (
            popen  # None if it is the child of a dead dispatcher, and so now of the keeper, which reaps it
        )
        self.pid = pid
        self.pidfd = pidfd
        self._status_of = status_of

    def signal(self, number: int) -> None:
        """Send a signal. If the process has ended, nothing happens."""
        try:
            signal.pidfd_send_signal(self.pidfd.fileno(), number)
        except ProcessLookupError:
            return

    def reap(self) -> int:
        """Wait for the end of the process. Returns its exit code, or minus the number of the signal."""
        status = self._wait_for_keeper() if self._popen is None else self._popen.wait()
        self.pidfd.close()
        return status

    def _wait_for_keeper(self) -> int:
        """The status, once the keeper has stored it; that of SIGKILL if it does not do so soon."""
        for _ in range(_PATIENCE_MS):
            if (status := self._status_of(self.pid)) is not None:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.001)
        return -signal.SIGKILL


def start(
    module: str, channel: socket.socket, folder: str = "", name: str = "", arguments: Sequence[str] = ()
) -> Child:
    """Run a module of fdpass in a new interpreter, with the flags of this one (``-O``, ``-W``, ``-X``, ...).

    Args:
        module: Name of the module.
        channel: Lent. Its number is an argument of the child.
        folder: Working folder of the child; empty: that of this process.
        name: The child's argument after it: the name that it gives itself.
        arguments: The child's arguments before it.

    Raises:
        CallFailed: fork, exec or pidfd_open(2) failed: EAGAIN (too many processes), ENOMEM, EMFILE.
    """
    number = channel.fileno()
    # -P: no file of the working directory can take the place of a module that fdpass or the library imports.
    words = [*arguments, str(number), *([name] if name else [])]
    command = [sys.executable, *_interpreter_flags(), "-P", "-m", module, *words]
    try:
        popen = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=(number,), process_group=0, cwd=folder or None
        )
    except OSError as error:
        raise translated(error, f"cannot start {sys.executable}") from error
    try:
        return Child(popen, Fd(os.pidfd_open(popen.pid)), popen.pid)
    except OSError as error:
        popen.kill()
        popen.wait()
        raise translated(error, "cannot watch a child") from error


def _interpreter_flags() -> list[str]:
    """The flags that this interpreter was started with."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
    for name, value in sys._xoptions.items():  # noqa: SLF001 - documented, for CPython
        option = name if value is True else f"{name}={value}"
        if option not in flags:
            flags += ["-X", option]
    if getattr(sys.__stdout__, "write_through", False):  # sys.flags does not have -u
        flags.append("-u")
    return flags


def resident_bytes(pid: int) -> int:
    """Resident memory of a process in bytes; 0 if it has ended (proc(5), statm)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_SIZE
    except (OSError, IndexError):
        return 0


def describe_status(status: int) -> str:
    """What `Child.reap` returned, in words: ``exit code 1``, ``killed by SIGKILL``."""
    return f"exit code {status}" if status >= 0 else f"killed by {cause_of(status)}"


def cause_of(status: int) -> str:
    """What `Child.reap` returned, as a cause to count: ``exit 1``, ``SIGKILL``."""
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
