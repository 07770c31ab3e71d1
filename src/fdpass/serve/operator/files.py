"""The pidfile: a file that holds the dispatcher's process ID, for an operator's scripts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from fdpass._errors import translated


@contextlib.contextmanager
def pidfile(path: str) -> Iterator[None]:
    """Write our process ID to a file, and remove the file at the end if it still holds our process ID.

    Args:
        path: The file; "" for none.

    Raises:
        CallFailed: The file cannot be written.
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
