"""`live`: what a dispatcher's process runs.

It never returns, and unwinds nothing: what it closed would be closed in the keeper too.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.texts import Text

CRASHED = 70
"""Exit code of a process that an exception has ended."""


def live(life: Callable[[], None], estate: Estate) -> NoReturn:
    """Run a dispatcher from its start to its end.

    Args:
        life: What it does.
        estate: Gets the reason if an exception ends the dispatcher before it has served.
    """
    head = estate.head
    before = head[Head.SERIAL]
    try:
        life()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        # The process ends in this block: an exception that is freed frees the frames that it has passed, and the
        # objects in them would close their descriptors.
        if not before < head[Head.SERIAL] == head[Head.SERVED]:
            estate.texts[Text.REASON] = in_one_line(error)
        end_with_traceback()
    end(0)


def in_one_line(error: BaseException) -> str:
    """An exception of new code, in one line."""
    return " ".join("".join(traceback.format_exception_only(error)[-1:]).split())


def end_with_traceback() -> NoReturn:
    """End this process because of the exception that is being handled."""
    try:
        traceback.print_exc()
    finally:
        end(CRASHED)


def end(status: int) -> NoReturn:
    """End this process."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
