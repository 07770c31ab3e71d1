"""`Reserve`: the descriptors that accept(2) leaves to the dispatcher's own work."""

from __future__ import annotations

import errno
import os
import resource

_MOST = 32  # a start of a worker takes about 10


class Reserve:
    """Tells by the number of a new descriptor, which is the lowest that was free, how many are left.

    With a full table a dispatcher can start no worker, and can store nothing for the next dispatcher.

    Attributes:
        first: The lowest number of the reserve.
        is_touched: A descriptor of the reserve may be in use: call `check` before the next accept(2).
    """

    def __init__(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.first = limit - min(_MOST, limit // 8)
        self.is_touched = True  # perhaps by the dispatcher before

    def check(self, fd: int) -> None:
        """Look again whether the next descriptor is one of the reserve.

        Args:
            fd: Any descriptor. Lent.

        Raises:
            OSError: EMFILE: it is, or there is none.
        """
        number = os.dup(fd)
        os.close(number)
        if number >= self.first:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.is_touched = False
