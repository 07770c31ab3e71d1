"""`inherited`: the descriptors that a service manager gave to this process by socket activation.

The convention is sd_listen_fds(3): LISTEN_FDS is how many descriptors the process LISTEN_PID has, from number 3
on; LISTEN_FDNAMES has their names, separated by colons. LISTEN_PIDFDID (systemd 257) names the process once more,
by the inode of its pidfd, which no later process can have.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import MutableMapping
from typing import NamedTuple

from fdpass._errors import NotActivated, translated
from fdpass._fd import Fd, opened
from fdpass._words import counted

_FIRST_FD = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Inherited(NamedTuple):
    """A descriptor, which you own, and its name: ``"unknown"`` if LISTEN_FDNAMES is not set."""

    name: str
    fd: Fd


def inherited(environ: MutableMapping[str, str] = os.environ) -> list[Inherited]:
    """Take over the descriptors of socket activation, and make them close-on-exec.

    The variables are removed from the environment, so that no child process takes them for its own; a second
    call returns an empty list.

    Args:
        environ: The environment that has the variables.

    Returns:
        The descriptors, which you own, in the order in which they were passed; an empty list if the variables
        are not set, or name another process.

    Raises:
        NotActivated: The variables are not what sd_listen_fds(3) says. No descriptor was touched.
        CallFailed: LISTEN_PIDFDID is set, and no descriptor slot is free to compare it (EMFILE).
    """
    pid, count, names, pidfd = (environ.pop(name, None) for name in _VARIABLES)
    if pid is None or count is None:
        return []
    if _number("LISTEN_PID", pid) != os.getpid() or not _is_own(pidfd):
        return []  # set for a parent of this process
    total = _number("LISTEN_FDS", count)
    _check_open(total)
    found = names.split(":") if names else ["unknown"] * total
    if len(found) != total:
        raise NotActivated(
            f"LISTEN_FDNAMES has {counted(len(found), 'name')}, but LISTEN_FDS={total}: give each a name"
        )
    for number in range(_FIRST_FD, _FIRST_FD + total):
        os.set_inheritable(number, False)
    return [Inherited(name, Fd(number)) for number, name in enumerate(found, _FIRST_FD)]


def _is_own(pidfd: str | None) -> bool:
    """Whether LISTEN_PIDFDID, if it is set, is this process: the inode of its pidfd, which is never used again."""
    if pidfd is None:
        return True
    number = _number("LISTEN_PIDFDID", pidfd)
    try:
        with opened(os.pidfd_open, os.getpid()) as own, opened(os.eventfd, 0) as other:
            process, event = os.fstat(own.fileno()), os.fstat(other.fileno())
    except OSError as error:
        raise translated(error, "cannot tell whether LISTEN_PIDFDID is this process") from error
    # Before Linux 6.9 pidfds have no file system of their own: all have the inode of eventfds and the like.
    return process.st_dev == event.st_dev or process.st_ino == number


def _check_open(total: int) -> None:
    for number in range(_FIRST_FD, _FIRST_FD + total):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError as error:
            raise NotActivated(f"LISTEN_FDS={total}, but descriptor {number} is not open") from error


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise NotActivated(f"{name} is {text!r}, which is not a number")
    return int(text)
