"""Starts fdpass's dispatcher under valgrind, which knows no pidfd (3.19): a helper process makes them.

    python _instructions_launch.py WORKER_PYTHON serve ...

WORKER_PYTHON is the program that the dispatcher starts as the interpreter of its workers.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys

from fdpass._cli import main

PYTHON = sys.executable
HELPER = """
import os, socket, sys
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"x"], [os.pidfd_open(int(sys.argv[2]))])
"""
real_open, real_send = os.pidfd_open, signal.pidfd_send_signal
pids: dict[int, int] = {}  # by the number of the pidfd


def pidfd_open(pid: int, flags: int = 0) -> int:
    """valgrind does not follow the helper (--trace-children=no), so the helper's pidfd_open reaches the kernel."""
    try:
        return real_open(pid, flags)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = str(theirs.fileno())
        subprocess.run([PYTHON, "-c", HELPER, number, str(pid)], check=True, pass_fds=(theirs.fileno(),))
        pidfd = socket.recv_fds(ours, 1, 1)[1][0]
    os.set_inheritable(pidfd, False)
    pids[pidfd] = pid
    return pidfd


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """The dispatcher reaps a worker before it closes the pidfd: the number is the worker's until then."""
    if pidfd in pids:
        os.kill(pids[pidfd], number)
    else:
        real_send(pidfd, number)


if __name__ == "__main__":
    sys.executable = sys.argv.pop(1)
    vars(os)["pidfd_open"] = pidfd_open
    vars(signal)["pidfd_send_signal"] = pidfd_send_signal
    main()
