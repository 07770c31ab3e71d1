"""`Orphans`: reaps processes whose parents have ended, if this process is their new parent.

The kernel makes the first process of a PID namespace (of a container) their parent, or a subreaper
(PR_SET_CHILD_SUBREAPER of prctl(2)). Without wait(2) each would stay a zombie, and keep its number, until
this process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Container
from pathlib import Path

from fdpass._fd import Fd

log = logging.getLogger("fdpass.serve")

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 1, 36, 37
_MOST_ROUNDS = 100  # of killing: the children of killed ones become children of this process
_PATIENCE = 2.0  # seconds: a process that waits for a device or for NFS does not end at once
_libc = ctypes.CDLL(None)


class Orphans:
    """Reaps children that are neither workers, nor children from before this object was made.

    Args:
        workers: Returns the numbers of the workers that are not reaped yet.
    """

    def __init__(self, workers: Callable[[], Container[int]]) -> None:
        self._workers = workers
        self._adopts = os.getpid() == 1 or _is_subreaper()
        self._before = _children() if self._adopts else set()

    def reap(self) -> None:
        """Reap ended orphans, until an ended worker is found; the next call continues."""
        if not self._adopts:
            return
        workers, count = self._workers(), 0
        with contextlib.suppress(ChildProcessError):  # there are no children
            # WNOWAIT: the status stays, because a worker's is for `Child.reap`.
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in workers:
                    break
                if found.si_pid in self._before:  # the program may never wait for it, and it hides the others
                    count += self._reap_listed(workers)
                    break
                os.waitpid(found.si_pid, 0)
                count += 1
        if count:
            log.debug("reaped %d processes whose parents have ended", count)

    def adopted(self) -> set[int]:
        """The adopted children that were not reaped yet; empty if the kernel does not list children."""
        workers = self._workers() if self._adopts else ()
        return {pid for pid in _children() - self._before if pid not in workers} if self._adopts else set()

    def signal(self, number: int) -> None:
        """Send a signal to all adopted children."""
        for pid in self.adopted():  # not reaped yet, so each number is still the child's
            with contextlib.suppress(PermissionError):  # of a program with the rights of another user
                os.kill(pid, number)

    def kill(self) -> None:
        """End all adopted children, and theirs, with SIGKILL, and reap those that end within two seconds."""
        deadline = time.monotonic() + _PATIENCE
        for _ in range(_MOST_ROUNDS):
            found = self.adopted()
            if not found:
                return
            self.signal(signal.SIGKILL)
            for pid in found:
                _wait_until_ended(pid, deadline)
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() >= deadline:
                break
        log.warning("processes of the program have not ended within %g s of SIGKILL", _PATIENCE)

    def _reap_listed(self, workers: Container[int]) -> int:
        """Reap the ended orphans that the kernel lists. Returns their number."""
        others = [pid for pid in _children() - self._before if pid not in workers]
        return sum(os.waitpid(pid, os.WNOHANG)[0] != 0 for pid in others)


def become_subreaper() -> None:
    """Make this process the parent of its descendants whose parents end, as process 1 of a container is."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(parent: int, number: int) -> None:
    """Let the kernel send this process a signal once its parent ends.

    Args:
        parent: The parent. If it has ended already, this process gets the signal now.
        number: The signal.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def _wait_until_ended(pid: int, deadline: float) -> None:
    with Fd(os.pidfd_open(pid)) as pidfd:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll(max(0, deadline - time.monotonic()) * 1000)


def _is_subreaper() -> bool:
    found = ctypes.c_int(0)
    return _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0) == 0 and bool(found.value)


def _children() -> set[int]:
    """The children of this process; empty if the kernel does not list them (CONFIG_PROC_CHILDREN)."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for file in Path("/proc/self/task").glob("*/children"):
            found.update(map(int, file.read_text().split()))
    return found
