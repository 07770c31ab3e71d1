"""`place`: moves descriptors to the numbers at which socket activation, sd_listen_fds(3), expects them."""

from __future__ import annotations

import fcntl
import os

FIRST = 3  # SD_LISTEN_FDS_START


def place(numbers: list[int]) -> None:
    """Move owned descriptors to 3, 4, 5, ..., and make them inheritable.

    Other descriptors at these numbers are closed. A descriptor whose number is the target of an earlier one is
    duplicated to a free number first.
    """
    for index in range(len(numbers)):
        source, target = numbers[index], FIRST + index
        if source == target:
            os.set_inheritable(target, True)
            continue
        if target in numbers[index + 1 :]:
            numbers[numbers.index(target, index + 1)] = fcntl.fcntl(target, fcntl.F_DUPFD_CLOEXEC, target + 1)
        os.dup2(source, target)
        os.close(source)
