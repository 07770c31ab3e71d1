"""The pidfile, which holds the main process's ID, and checks of paths before anything is started."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from fdpass._errors import CallFailed, translated
from fdpass.serve.operator import servers

_LONGEST = 20  # characters of a process ID that are read


@contextlib.contextmanager
def pidfile(path: str) -> Iterator[None]:
    """Write our process ID to a file, and remove the file at the end if it still holds our process ID.

    Args:
        path: The file; "" for none.

    Raises:
        CallFailed: The file cannot be written, or is that of another server.
    """
    if path:
        _check_is_free(path)
    write_pidfile(path)
    try:
        yield
    finally:
        remove_pidfile(path)


def _check_is_free(path: str) -> None:
    """Refuse the pidfile of a server that serves: it could not be stopped by its file any more.

    A file can outlive its server, whose process ID can be that of another process by then, also our own. The
    successor of a server that is stopping may have its file.

    Raises:
        CallFailed: Such a server runs.
    """
    text = ""
    if os.path.isfile(path):
        with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="ascii") as file:
            text = file.read(_LONGEST).strip()
    pid = int(text) if text.isdecimal() else 0
    if pid not in {0, os.getpid()} and servers.is_serving(pid):
        raise CallFailed(
            errno.EEXIST,
            f"the pidfile {path} is that of a running server, process {pid}: "
            "give this server its own with --pidfile",
        )


def write_pidfile(path: str) -> None:
    """Write our process ID to a file; "" for none. Raises CallFailed."""
    if path:
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise translated(error, f"cannot write the pidfile {path}") from error


def remove_pidfile(path: str) -> None:
    """Remove the file if it still holds our process ID."""
    if path:
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            if file.read() == f"{os.getpid()}\n":
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
