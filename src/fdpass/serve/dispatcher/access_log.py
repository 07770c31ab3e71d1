"""`AccessLog`: the file to which the workers of a generation write a line for each request."""

from __future__ import annotations

import os

from fdpass._errors import translated
from fdpass._fd import Fd


class AccessLog:
    """An open access log. The dispatcher lends it to workers, and writes nothing itself.

    Args:
        path: Path of the file, to which lines are appended; ``-`` is standard output, "" is no log.

    Attributes:
        fd: The open file; None if there is no log. Owned. Its number stays the same until `close`.

    Raises:
        CallFailed: The file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.fd = _open(path) if path else None

    def reopen(self) -> None:
        """Open the path again: log rotation has moved the file.

        Raises:
            CallFailed: The file cannot be opened; the previous one stays open.
        """
        if self.fd is not None:
            with _open(self._path) as reopened:
                # A message that is queued for a worker names this number: it must not become another file's.
                os.dup2(reopened.fileno(), self.fd.fileno(), inheritable=False)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self.fd is not None:
            self.fd.close()


def _open(path: str) -> Fd:
    try:
        if path == "-":
            return Fd(os.dup(1))
        return Fd(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
    except OSError as error:
        raise translated(error, f"cannot open the access log {path}") from error
