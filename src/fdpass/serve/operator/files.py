"""The pidfile, which holds the main process's ID, and checks of paths before anything is started."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from fdpass._errors import CallFailed, translated
from fdpass._sockets import locking_directory
from fdpass.serve.operator import servers

_LONGEST = 20  # characters of a process ID that are read


@contextlib.contextmanager
def pidfile(path: str) -> Iterator[None]:
    """Write our process ID to a file, and remove the file at the end if it still holds our process ID.

    The control socket must listen by then: by it the next server with this file sees that we have begun.

    Args:
        path: The file; "" for none.

    Raises:
        CallFailed: The file cannot be written, or is that of another server.
    """
    if path:
        _claim(path)
    try:
        yield
    finally:
        remove_pidfile(path)


def _check_is_free(path: str, pid: int) -> None:
    """Refuse the pidfile of a server that serves: it could not be stopped by its file any more.

    A file can outlive its server, whose process ID can be that of another process by then, also our own. The
    successor of a server that is stopping may have its file.

    Args:
        path: The file.
        pid: The process ID in it; 0 if it has none.

    Raises:
        CallFailed: Such a server runs.
    """
    if pid not in {0, os.getpid()} and servers.is_serving(pid):
        raise CallFailed(
            errno.EEXIST,
            f"the pidfile {path} is that of a running server, process {pid}: "
            "give this server its own with --pidfile",
        )


def _claim(path: str) -> None:
    """Write our process ID to a file that is no other server's. Raises CallFailed.

    The check may wait for a server's answer, so the lock is taken after it, and not for longer than the writing.
    """
    pid, checked = _pid_in(path), -1
    while pid != checked:
        _check_is_free(path, pid)
        checked = pid
        with _locked(path):
            pid = _pid_in(path)  # another server that starts may have been faster
            if pid == checked:
                write_pidfile(path)


def _pid_in(path: str) -> int:
    """The process ID in a file; 0 if there is none."""
    text = ""
    if os.path.isfile(path):
        with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="ascii") as file:
            text = file.read(_LONGEST).strip()
    return int(text) if text.isdecimal() else 0


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Keep other servers from writing or removing the pidfile meanwhile, if its folder can be locked."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # there is no such folder: to write the file says it better
            for seconds in locking_directory(path, held):
                time.sleep(seconds)
        yield


def write_pidfile(path: str) -> None:
    """Write our process ID to a file; "" for none. If the disk is full, no file is left. Raises CallFailed."""
    if path:
        try:
            with open(path, "wb", buffering=0) as file:
                try:
                    file.write(b"%d\n" % os.getpid())
                except OSError:
                    if os.path.isfile(path):  # and not /dev/full
                        with contextlib.suppress(OSError):
                            os.unlink(path)
                    raise
        except OSError as error:
            raise translated(error, f"cannot write the pidfile {path}") from error


def remove_pidfile(path: str) -> None:
    """Remove the file if it still holds our process ID."""
    if path:
        with _locked(path), contextlib.suppress(OSError):
            if _pid_in(path) == os.getpid():
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
