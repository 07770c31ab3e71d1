"""`AccessLog`: the file to which the workers of a generation write a line for each request.

The dispatcher writes a line itself for each request that it answers in the place of a dead worker.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from fdpass._errors import CallFailed, translated
from fdpass._fd import Fd
from fdpass.serve.shared import access_log


class AccessLog:
    """An open access log. The dispatcher lends it to workers.

    Args:
        path: Path of the file, to which lines are appended; ``-`` is standard output, "" is no log.
        form: The format of a line: see `shared.access_log`.
        fd: The file, if it is open already. Given.

    Attributes:
        fd: The open file; None if there is no log. Owned. Its number stays the same until `close`.

    Raises:
        CallFailed: The file cannot be opened.
    """

    def __init__(self, path: str, form: str = "", fd: Fd | None = None) -> None:
        self._path, self._form = path, form
        self.fd = _open(path) if path and fd is None else fd

    def reopen(self) -> None:
        """Open the path again: log rotation has moved the file.

        Raises:
            CallFailed: The file cannot be opened; the previous one stays open.
        """
        if self.fd is not None:
            with _open(self._path) as reopened:
                # A message that is queued for a worker names this number: it must not become another file's.
                os.dup2(reopened.fileno(), self.fd.fileno(), inheritable=False)

    def line(self, scope: dict[str, Any], status: int, size: int, *, pid: int, json: bool) -> None:
        """Write the line of a request in the place of worker ``pid``: see `shared.access_log`. Never raises."""
        if self.fd is not None:
            access_log.AccessLog(self.fd, json=json, pid=pid, form=self._form).line(scope, status, size, None)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self.fd is not None:
            self.fd.close()


def _open(path: str) -> Fd:
    # O_NONBLOCK: a FIFO that nobody reads is an error (ENXIO), and does not stop the dispatcher.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        opened = Fd(os.dup(1) if path == "-" else os.open(path, flags, 0o640))
    except OSError as error:
        if error.errno == errno.ENXIO:
            why = "it is a FIFO that no process reads"
            raise CallFailed(error.errno, f"cannot open the access log {path}: {why}") from None
        raise translated(error, f"cannot open the access log {path}") from error
    if path != "-":
        os.set_blocking(opened.fileno(), True)
    return opened
