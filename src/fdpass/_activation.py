"""`inherited`: the descriptors that whoever started this process gave it by socket activation.

The convention is sd_listen_fds(3): LISTEN_FDS descriptors from 3 on, for the process LISTEN_PID, with names,
separated by colons, in LISTEN_FDNAMES.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import MutableMapping
from typing import NamedTuple

from fdpass._errors import NotActivated
from fdpass._fd import Fd

_FIRST = 3
_NAMES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class Inherited(NamedTuple):
    """A descriptor and the name that it was given: ``"unknown"`` if none."""

    name: str
    fd: Fd


def inherited(environ: MutableMapping[str, str] = os.environ) -> list[Inherited]:
    """The descriptors passed by socket activation; you own them, and they are close-on-exec from now on.

    The variables are removed from the environment, so that no child takes them for its own: a second call
    finds nothing.

    Args:
        environ: Where the variables are.

    Returns:
        In the order in which they were passed; empty if there are none for this process.

    Raises:
        NotActivated: The variables are not what the convention says. Nothing was touched but the environment.
    """
    pid, count, names = (environ.pop(name, None) for name in _NAMES)
    if pid is None or count is None:
        return []
    if _number("LISTEN_PID", pid) != os.getpid():
        return []  # meant for another process, which we are a child of
    total = _number("LISTEN_FDS", count)
    _check_open(total)
    found = names.split(":") if names else ["unknown"] * total
    if len(found) != total:
        raise NotActivated(f"LISTEN_FDNAMES has {len(found)} name(s) for LISTEN_FDS={total} descriptor(s)")
    for number in range(_FIRST, _FIRST + total):
        os.set_inheritable(number, False)
    return [Inherited(name, Fd(number)) for number, name in enumerate(found, _FIRST)]


def _check_open(total: int) -> None:
    for number in range(_FIRST, _FIRST + total):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError as error:
            raise NotActivated(f"LISTEN_FDS={total}, but descriptor {number} is not open") from error


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise NotActivated(f"{name}={text!r} is not a number")
    return int(text)
