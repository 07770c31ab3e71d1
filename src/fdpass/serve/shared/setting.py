"""`Setting`: the properties of a setting, which `field` attaches to a field of `Config`; and checks of values."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass
from typing import Any

from fdpass.errors import ConfigError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_KINDS = {str: "text", int: "whole", float: "seconds", bool: "switch", tuple: "addresses"}
_TAKES: dict[str, tuple[Any, str]] = {
    "whole": (int, "a whole number"),
    "size": (int, "a whole number"),
    "seconds": (float | int, "a number of seconds"),
    "switch": (bool, "true or false"),
}
_LARGEST = 10**20
_BOUNDS = {"whole": (0, 2**62), "size": (0, 2**62), "seconds": (0, 1_000_000)}  # of settings without their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting's properties besides its name, type and default.

    Attributes:
        help: The help text, for the command line and the reference; `...` marks code.
        kind: Kind of value: text, path, account, whole (number), seconds, size, switch, addresses, prefixes,
            headers or texts.
        choices: The allowed values; empty if the kind is the only limit.
        bounds: The least and the greatest number; None if the value is not a number.
        metavar: Placeholder for the value in a usage line; empty if the kind gives one.
        shown: The default in words, if its value does not explain itself.
        fixed: Whether a reload cannot change it: only a restart does.
    """

    help: str
    kind: str
    choices: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None
    metavar: str = ""
    shown: str = ""
    fixed: bool = False


def field(default: Any, text: str, *, kind: str = "", **more: Any) -> Any:
    """Make a field of `Config`; a default that is a function is called for each record."""
    kind = kind or _KINDS[type(default() if callable(default) else default)]
    metadata = {"setting": Setting(help=text, kind=kind, **{"bounds": _BOUNDS.get(kind), **more})}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def size(text: str) -> int:
    """Convert text such as ``500M`` to bytes; K, M and G are powers of 1024.

    Raises:
        ConfigError: The text is not a size.
    """
    match = re.fullmatch(r"(\d{1,12})\s?([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise ConfigError(
            f"{text!r} is not a size: give a number of bytes, or a number with K, M or G, such as 500M"
        )
    return int(match[1]) * _UNITS[match[2].upper()]


def flag(name: str) -> str:
    """The option that gives a setting on the command line."""
    return "--" + name.replace("_", "-") if name != "app" else "the application"


def convert(name: str, setting: Setting, value: Any) -> Any:
    """Convert a value from Python or TOML to the type of its setting.

    Raises:
        ConfigError: The value is of another type, or is text with a null character.
    """
    kind = setting.kind
    if type(value) is int and abs(value) > _LARGEST:  # too large for a float, or to write
        raise ConfigError(f"{flag(name)}: this number is too large")
    if kind == "addresses":
        return _texts(name, "one or more addresses", value, least=1)
    if kind == "prefixes":
        return _prefixes(name, value)
    if kind in {"headers", "texts"}:
        return _texts(name, "one or more texts", value, least=0)
    if kind == "size" and isinstance(value, str):
        return size(value)
    if kind == "path" and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if kind == "account" and type(value) is int:
        value = str(value)
    wanted, words = _TAKES.get(kind, (str, "text"))
    if name == "app" and callable(value):
        raise ConfigError("give the application by its name, MODULE:NAME: each worker imports it")
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "switch"):
        raise ConfigError(f"{flag(name)} takes {words}, not {_shown(value)}")
    if kind == "seconds" and not math.isfinite(value):
        raise ConfigError(f"{flag(name)} takes a finite number, not {value!r}")
    if wanted is str:
        _check_text(name, value)
    return value.lower() if setting.choices else value


def _shown(value: Any) -> str:
    """A value of any type for an error: Python writes no number of more than 4,300 digits, and no deep nesting."""
    try:
        return repr(value)
    except (ValueError, RecursionError):
        return "this value"


def _check_text(name: str, text: str) -> None:
    if "\0" in text:  # no name of a file, user or host can have one: system calls end the text there
        raise ConfigError(f"{flag(name)} {text!r}: has a null character")


def _texts(name: str, words: str, value: Any, *, least: int) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else value
    if (
        not isinstance(found, tuple | list)
        or len(found) < least
        or not all(isinstance(item, str) for item in found)
    ):
        raise ConfigError(f"{flag(name)} takes {words}, not {_shown(value)}")
    for text in found:
        _check_text(name, text)
    return tuple(found)


def _prefixes(name: str, value: Any) -> tuple[str, ...]:
    found = _texts(name, "paths", value, least=0)
    for path in found:
        if not path.startswith("/"):
            raise ConfigError(f"{flag(name)} {path!r}: a path begins with a slash, such as /ws")
        if "*" in path or "?" in path:
            raise ConfigError(
                f"{flag(name)} {path!r}: give a path without * or ?; all paths below it belong to it"
            )
    return found


def check_range(name: str, setting: Setting, value: Any) -> None:
    """Refuse a value that is not a choice, or not within the bounds.

    Raises:
        ConfigError: The value is not allowed.
    """
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{flag(name)} {value!r}: must be one of {', '.join(setting.choices)}")
    if setting.bounds is not None:
        least, most = setting.bounds
        if not least <= value <= most:
            raise ConfigError(f"{flag(name)} {value!r}: must be from {least:,} to {most:,}")
