"""Logging of the server: one line per event to standard error, as text or as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from fdpass._supervision.logs import line_handler
from fdpass.errors import ConfigError

_NAMES = ("fdpass", "uvicorn")
_CHILDREN = ("fdpass.serve", "uvicorn.error")
_OTHER = MappingProxyType({"event": "other"})


class _Foreign(logging.Filter):
    """Lets pass what the application logs as ``uvicorn.error``, and of uvicorn itself only warnings and errors.

    uvicorn gives this logger to websockets, which logs "connection open" for each WebSocket.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        modules = map(sys.modules.get, ("uvicorn", "websockets"))
        folders = [os.path.dirname(file) + os.sep for each in modules if (file := getattr(each, "__file__", None))]
        return record.levelno >= logging.WARNING or not record.pathname.startswith(tuple(folders))


_FOREIGN = _Foreign()


_tails: list[logging.Handler] = []


def add_tail(handler: logging.Handler) -> None:
    """Let a handler get the lines of ``fdpass.serve`` from its own level on, after the next `configure`."""
    _tails.append(handler)


def remove_tail(handler: logging.Handler) -> None:
    """Let it get no lines any more."""
    _tails.remove(handler)
    logging.getLogger("fdpass.serve").removeHandler(handler)


def configure(level: str, *, as_json: bool, file: str = "", fields: Mapping[str, Any] = _OTHER) -> None:
    """Send what fdpass and uvicorn log to standard error; then apply the configuration in a file, if there is one.

    Args:
        level: The least severe level.
        as_json: Write JSON objects.
        file: The file; "" for none.
        fields: Fields of each object, unless a line has others of these names.

    Raises:
        ConfigError: The file cannot be read, or `logging.config` refuses its content.
    """
    handler = line_handler(as_json=as_json, fields=fields)
    handler.setLevel(level.upper())
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
    try:
        if file:
            _apply(file, read_config(file))
    finally:
        _attach_tails(least=None if file else handler.level)


def _attach_tails(least: int | None) -> None:
    """Attach the tails anew, which `dictConfig` may have removed; without a file, let them get what they want."""
    logger = logging.getLogger("fdpass.serve")
    for tail in _tails:
        logger.addHandler(tail)
        if least is not None:
            logger.setLevel(min(least, tail.level))


def to_standard_error(level: str, *, as_json: bool) -> None:
    """As `configure` without a file; and close all handlers of the process, with the files that they have open.

    A dispatcher with a keeper opens log files for itself. The keeper must have none: both have one table of
    descriptors, so a file that the dispatcher closes, for a reload or a rotation, is closed in the keeper too, and
    its number can become a connection's.
    """
    logging.shutdown()
    logging.getLogger().handlers.clear()
    configure(level, as_json=as_json)


def _keep_enabled(logger: logging.Logger) -> None:
    """Let nothing disable a logger: `dictConfig` does that to each logger which it does not name, by default."""
    kind = type(logger)
    if not isinstance(vars(kind).get("disabled"), property):
        always = property(lambda _: False, lambda *_: None)
        logger.__class__ = type(kind.__name__, (kind,), {"disabled": always})


def read_config(path: str) -> dict[str, Any]:
    """Read a configuration for `logging.config`: INI (``.ini``, ``.conf``), TOML (``.toml``), YAML or JSON.

    Returns:
        What `dictConfig` takes; of an INI file, what `fileConfig` takes, with the key ``ini``.

    Raises:
        ConfigError: The file cannot be read, or is not of its format.
    """
    kind = _KINDS.get(os.path.splitext(path)[1].lower(), "JSON")
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


def _from_ini(content: bytes) -> Any:
    import configparser  # noqa: PLC0415 - few servers need it

    parser = configparser.RawConfigParser()  # in which %(name)s of a format stays as it is
    parser.read_string(content.decode())
    return {_INI: parser}


def _from_toml(content: bytes) -> Any:
    import tomllib  # noqa: PLC0415 - large, and few workers need it

    return tomllib.loads(content.decode())


_INI = "ini"  # the key of what `fileConfig` takes
_KINDS = {".toml": "TOML", ".yaml": "YAML", ".yml": "YAML", ".ini": "INI", ".conf": "INI"}
_PARSERS: dict[str, Callable[[bytes], Any]] = {
    "INI": _from_ini,
    "TOML": _from_toml,
    "JSON": json.loads,
    "YAML": _from_yaml,
}


def _apply(path: str, content: dict[str, Any]) -> None:
    from logging.config import dictConfig, fileConfig  # noqa: PLC0415 - it imports much, for few

    try:
        if _INI in content:
            fileConfig(content[_INI], disable_existing_loggers=False)
        else:
            dictConfig(content)
    except Exception as error:
        cause = f": {error.__cause__}" if error.__cause__ is not None else ""
        raise ConfigError(f"--log-config {path}: {error}{cause}") from error
