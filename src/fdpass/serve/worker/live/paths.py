"""Which paths ``--resume`` names. Pure."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable


def with_slashes(prefixes: Iterable[str]) -> tuple[str, ...]:
    """The prefixes of the setting, as the other functions take them: with one slash at the end."""
    return tuple(prefix.rstrip("/") + "/" for prefix in prefixes)


def is_resumable(path: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a path is one of ``prefixes``, or is below one."""
    return (path + "/").startswith(prefixes)


def path_of(head: bytes) -> str:
    """The path that the head of a request asks for, as the application's scope has it."""
    target = head.partition(b" ")[2].partition(b" ")[0]
    return urllib.parse.unquote(target.partition(b"?")[0].decode("latin-1"))
