"""How the command ends when a signal stops it: it cleans up, and then the signal kills it.

So a shell sees which signal it was: it stops a loop or a script at Ctrl-C, and shows 128 plus the signal's number
as the exit code.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from fdpass import _interrupt

_interrupt.end_at_once()  # while the rest of the command is imported


class Stopped(BaseException):
    """A signal has arrived that ends the command.

    Attributes:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stop_on(*numbers: int) -> None:
    """Make these signals raise `Stopped`; signals that nohup ignores stay ignored."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    raise Stopped(number)


def end_by(number: int) -> NoReturn:
    """End this process by a signal; call it after all cleaning up."""
    if _interrupt.COMMAND:  # not in a program that calls the command as a function
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(128 + number)  # the first process of a container does not die by a signal's default action
