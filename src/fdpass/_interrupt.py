"""Ctrl-C while the command ``fdpass`` starts: SIGINT ends the process at once, as it ends a program in C.

Python's own handler raises KeyboardInterrupt, whose traceback would name the module that is being imported. A
program that uses fdpass as a library keeps its handler.
"""

import contextlib
import itertools
import os
import signal
import sys


def _is_command() -> bool:
    """Whether this process is ``fdpass ...`` or ``python -m fdpass ...``."""
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    if name != "-m":  # the first argument while Python looks for the module of -m
        return name == "fdpass"
    return any(
        option.startswith("-") and option.endswith("m") and module == "fdpass"
        for option, module in itertools.pairwise(sys.orig_argv)
    )


COMMAND = _is_command()


def end_at_once() -> None:
    """Give SIGINT its default action, unless it is ignored or the program has a handler of its own."""
    _replace(signal.default_int_handler, signal.SIG_DFL)


def raise_exceptions() -> None:
    """Make SIGINT raise KeyboardInterrupt again."""
    _replace(signal.SIG_DFL, signal.default_int_handler)


def _replace(old: object, new: signal.Handlers | object) -> None:
    if COMMAND and signal.getsignal(signal.SIGINT) is old:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, new)  # type: ignore[arg-type]


end_at_once()
