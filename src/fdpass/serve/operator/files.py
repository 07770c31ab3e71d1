"""The pidfile: a file in which an operator finds the number of the dispatcher."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from fdpass._errors import translated


@contextlib.contextmanager
def pidfile(path: str) -> Iterator[None]:
    """Have our process number in a file, if a path is given. It is removed if it is still ours.

    Raises:
        CallFailed: It cannot be written.
    """
    if not path:
        yield
        return
    text = f"{os.getpid()}\n"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise translated(error, f"cannot write the pidfile {path}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            if file.read() == text:
                os.unlink(path)
