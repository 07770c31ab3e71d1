"""`make_room`: how many descriptors fit into the store, by the limit on open files."""

from __future__ import annotations

import resource
from typing import NamedTuple

from fdpass._ancillary import MAX_FDS
from fdpass.errors import ConfigError

_DEFAULT = 512
_OWN_FILES = 128 + MAX_FDS  # for this process itself, for clients of its control socket, and for one notification
_PROGRAM_FILES = 256  # that the program can open besides those that it is given
_UNLIMITED = 2**20  # fs.nr_open, as a rule


class Room(NamedTuple):
    """Limits on open files.

    Attributes:
        store: How many descriptors the store may have.
        program: The soft limit of the program: that of this process before, or what the program needs if it gets
            all descriptors. It can be above the hard limit.
    """

    store: int
    program: int


def make_room(wanted: int | None, listeners: int) -> Room:
    """Raise this process's limit on open files to the hard limit.

    Args:
        wanted: How many descriptors the store is to have; None: as many as usual, or fewer.
        listeners: How many descriptors this process holds besides.

    Raises:
        ConfigError: The hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else _UNLIMITED
    fits = max(0, most - listeners - _OWN_FILES)
    store = min(_DEFAULT, fits) if wanted is None else wanted
    if store > fits:
        raise ConfigError(
            f"--store-max {store} cannot fit: a process may have {most} open files (ulimit -Hn), and "
            f"fdpass keep needs {listeners + _OWN_FILES} for itself; lower --store-max, or raise the limit"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if soft == resource.RLIM_INFINITY:
        return Room(store, soft)
    return Room(store, max(soft, store + listeners + _PROGRAM_FILES))
