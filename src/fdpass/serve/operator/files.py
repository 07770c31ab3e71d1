"""The pidfile, which holds the dispatcher's process ID, and checks of paths before anything is started."""

from __future__ import annotations

import contextlib
import errno
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


def check_writable(path: str, purpose: str) -> None:
    """Check that a file can be written, without making it.

    Args:
        path: The file.
        purpose: What the file is, for the error.

    Raises:
        CallFailed: The file cannot be written or made.
    """
    try:
        # O_NONBLOCK: a FIFO without a reader fails with ENXIO instead of waiting for one.
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError:
        check_folder(path, purpose)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise translated(error, f"cannot write {purpose} {path}") from error


def check_folder(path: str, purpose: str) -> None:
    """Check that a file could be made at this path.

    Raises:
        CallFailed: The folder does not exist, or is not writable.
    """
    folder = os.path.dirname(path) or "."
    number = 0
    if not os.path.isdir(folder):
        number = errno.ENOTDIR if os.path.exists(folder) else errno.ENOENT
    elif not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EACCES
    if number:
        error = OSError(number, os.strerror(number))
        raise translated(error, f"cannot make {purpose} {path}: folder {folder}")
