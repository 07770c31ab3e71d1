"""Which paths ``--resume`` names. Pure."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable


def is_resumable(path: str, prefixes: Iterable[str]) -> bool:
    """Whether a path is one of ``prefixes``, or is below one. A slash at the end of a prefix means nothing."""
    return any(f"{path}/".startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)


def path_of(head: bytes) -> str:
    """The path that the head of a request asks for, as the application's scope has it."""
    return urllib.parse.unquote(head.split(b" ", 2)[1].partition(b"?")[0].decode("latin-1"))
