"""Gives this process a name that ps(1) and top(1) show, in the place of its command line."""

from __future__ import annotations

import contextlib
import os
import sys

_ARG_START, _ARG_END = 45, 46  # of the fields behind the command in proc_pid_stat(5)


def set_name(name: str, short: str) -> None:
    """Write a name over the arguments of this process. Never raises; then the command line stays as it is.

    The kernel shows the memory in which the arguments were when the program began (proc_pid_cmdline(5)). Python
    has copies of its own. The name has room if it is one of the arguments. Nothing is written if that memory does
    not hold the arguments of this program.

    Args:
        name: The name, for ps(1).
        short: Up to 15 bytes, for top(1), pgrep(1) and the kernel's log: prctl(2), PR_SET_NAME.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(os.fsencode(short))
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            # Under valgrind they are valgrind's own, which it goes on using.
            if memory.read(end - start) == b"".join(os.fsencode(each) + b"\0" for each in sys.orig_argv):
                memory.seek(start)
                memory.write(os.fsencode(name)[: end - start - 1].ljust(end - start, b"\0"))
