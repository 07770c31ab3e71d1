"""Which paths ``--resume`` names. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def is_resumable(path: str, prefixes: Iterable[str]) -> bool:
    """Whether a path is one of ``prefixes``, or is below one. A slash at the end of a prefix means nothing."""
    return any(f"{path}/".startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)
