"""`AccessLog`: the file to which the workers of a generation write a line for each request."""

from __future__ import annotations

import os

from fdpass._errors import translated
from fdpass._fd import Fd


class AccessLog:
    """An open access log. The dispatcher lends it to workers, and writes nothing itself.

    Args:
        path: The file, which is appended to; ``-`` is standard output, "" is no log.

    Attributes:
        fd: The open file; None if there is no log. Owned. The number stays the same until `close`.

    Raises:
        CallFailed: The file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.fd = _opened(path) if path else None

    def reopen(self) -> None:
        """Open the file again, because somebody has moved it.

        Raises:
            CallFailed: The file cannot be opened; the one before stays open.
        """
        if self.fd is not None:
            with _opened(self._path) as fresh:
                # A message that waits in a worker's channel names this number: it must not become another file.
                os.dup2(fresh.fileno(), self.fd.fileno(), inheritable=False)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self.fd is not None:
            self.fd.close()


def _opened(path: str) -> Fd:
    try:
        if path == "-":
            return Fd(os.dup(1))
        return Fd(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640))
    except OSError as error:
        raise translated(error, f"cannot open the access log {path}") from error
