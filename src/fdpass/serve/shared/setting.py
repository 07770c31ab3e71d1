"""`Setting`: the properties of a setting, which `field` attaches to a field of `Config`; and sizes as text."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from fdpass.errors import ConfigError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_KINDS = {str: "text", int: "whole", float: "seconds", bool: "switch", tuple: "addresses"}
_BOUNDS = {"whole": (0, 2**62), "size": (0, 2**62), "seconds": (0, 1_000_000)}  # of settings without their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting's properties besides its name, type and default.

    Attributes:
        help: The help text, for the command line and the reference; `...` marks code.
        kind: Kind of value: text, path, account, whole (number), seconds, size, switch or addresses.
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
