"""Log lines: one per event to standard error, as text or as JSON."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

FIELDS = ("event", "worker", "generation", "connection", "cause")
"""What a line can have besides its time, process, level and message: attributes of its record."""


def line_handler(*, as_json: bool, fields: Mapping[str, Any] = MappingProxyType({})) -> logging.Handler:
    """Make a handler that writes one line per event to standard error.

    Args:
        as_json: Write JSON objects.
        fields: Fields of each object, unless a line has others of these names.
    """
    handler = _StandardError(_unbuffered())
    handler.setFormatter(_JsonFormatter(fields) if as_json else _TextFormatter())
    return handler


class _StandardError(logging.StreamHandler[Any]):
    """Ignores a write that fails: a full disk or a closed pipe must not stop the server or print a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's own
        return


def _unbuffered() -> Any:
    """Open standard error without a buffer: else the exit would flush again what a full disk has refused."""
    try:
        raw = io.FileIO(sys.stderr.fileno(), "w", closefd=False)
    except OSError:  # sys.stderr has been replaced by an object without a descriptor
        return sys.stderr
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__(f"%(asctime)s [{os.getpid()}] %(levelname)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


class _JsonFormatter(logging.Formatter):
    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(as_fields(record, self._fields), ensure_ascii=False)


def as_fields(record: logging.LogRecord, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of the log as an object; ``fields`` are as of `line_handler`."""
    line: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
        "pid": os.getpid(),
        "level": record.levelname.lower(),
        **fields,
        **{name: value for name in FIELDS if (value := getattr(record, name, None)) is not None},
        "message": record.getMessage(),
    }
    if record.exc_info:
        line["traceback"] = _formatter.formatException(record.exc_info)
    return line


_formatter = logging.Formatter()
