"""Logging of the server: one line per event to standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from fdpass._supervision.logs import line_handler
from fdpass.errors import ConfigError

_NAMES = ("fdpass", "uvicorn")
_CHILDREN = ("fdpass.serve", "uvicorn.error")


class _Foreign(logging.Filter):
    """Lets pass what the application logs as ``uvicorn.error``, and of uvicorn itself only warnings and errors.

    uvicorn gives this logger to websockets, which logs "connection open" for each WebSocket.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        modules = map(sys.modules.get, ("uvicorn", "websockets"))
        folders = [os.path.dirname(file) + os.sep for each in modules if (file := getattr(each, "__file__", None))]
        return record.levelno >= logging.WARNING or not record.pathname.startswith(tuple(folders))


_FOREIGN = _Foreign()


def configure(level: str, *, as_json: bool, file: str = "") -> None:
    """Send what fdpass and uvicorn log to standard error; then apply the configuration in a file, if there is one.

    Raises:
        ConfigError: The file cannot be read, or `logging.config.dictConfig` refuses its content.
    """
    handler = line_handler(as_json=as_json)
    for name in (*_NAMES, *_CHILDREN):
        logger = logging.getLogger(name)
        _keep_enabled(logger)
        is_parent = name in _NAMES
        logger.handlers[:] = [handler] if is_parent else []
        logger.propagate = not is_parent
        logger.setLevel(level.upper() if is_parent else logging.NOTSET)
    error = logging.getLogger("uvicorn.error")
    error.removeFilter(_FOREIGN)
    if level != "debug":
        error.addFilter(_FOREIGN)  # fdpass itself logs each start and stop
    if file:
        _apply(file, read_config(file))


def _keep_enabled(logger: logging.Logger) -> None:
    """Let nothing disable a logger: `dictConfig` does that to each logger which it does not name, by default."""
    kind = type(logger)
    if not isinstance(vars(kind).get("disabled"), property):
        always = property(lambda _: False, lambda *_: None)
        logger.__class__ = type(kind.__name__, (kind,), {"disabled": always})


def read_config(path: str) -> dict[str, Any]:
    """Read a configuration for `logging.config.dictConfig`: TOML (``.toml``), YAML (``.yaml``, ``.yml``) or JSON.

    Raises:
        ConfigError: The file cannot be read, or is not of its format.
    """
    kind = {".toml": "TOML", ".yaml": "YAML", ".yml": "YAML"}.get(os.path.splitext(path)[1].lower(), "JSON")
    try:
        with open(path, "rb") as opened:
            content = opened.read()
        found = _PARSERS[kind](content)
    except OSError as error:
        raise ConfigError(f"--log-config {path}: cannot be read: {error.strerror}") from error
    except ImportError as error:
        raise ConfigError(f"--log-config {path}: YAML needs PyYAML: pip install pyyaml") from error
    except Exception as error:
        raise ConfigError(f"--log-config {path}: is not {kind}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"--log-config {path}: has no table at its top level")
    return found


def _from_yaml(content: bytes) -> Any:
    import yaml  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415 - only where it is wanted and installed

    return yaml.safe_load(content)


def _from_toml(content: bytes) -> Any:
    import tomllib  # noqa: PLC0415 - large, and few workers need it

    return tomllib.loads(content.decode())


_PARSERS: dict[str, Callable[[bytes], Any]] = {
    "TOML": _from_toml,
    "JSON": json.loads,
    "YAML": _from_yaml,
}


def _apply(path: str, content: dict[str, Any]) -> None:
    from logging.config import dictConfig  # noqa: PLC0415 - it imports much, for few

    try:
        dictConfig(content)
    except Exception as error:
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        raise ConfigError(f"--log-config {path}: {error}{cause}") from error
