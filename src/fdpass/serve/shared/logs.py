"""Where the server's own log lines go: standard error, for people or as JSON. One line an event."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from typing import Any

_NAMES = ("fdpass", "uvicorn")


class _Quiet(logging.StreamHandler[Any]):
    """A full disk, or a reader that has gone, is no reason to fail, nor to print a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's own
        return


def _unbuffered() -> Any:
    """Standard error. What a full disk refused must not come up again when a buffer is flushed at the exit."""
    try:
        raw = io.FileIO(sys.stderr.fileno(), "w", closefd=False)
    except OSError:  # somebody has replaced it
        return sys.stderr
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)


class _Plain(logging.Formatter):
    def __init__(self) -> None:
        super().__init__(f"%(asctime)s [{os.getpid()}] %(levelname)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "pid": os.getpid(),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


def configure(level: str, *, as_json: bool) -> None:
    """Send what fdpass and uvicorn log to standard error. The application's own loggers are its own."""
    handler = _Quiet(_unbuffered())
    handler.setFormatter(_Json() if as_json else _Plain())
    for name in _NAMES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())
    if level != "debug":
        # Of uvicorn's, only what goes wrong: its steps of starting and stopping are told by us.
        logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
