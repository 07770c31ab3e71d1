"""For clients of control sockets: the default path, in the user's own runtime folder, and why a request failed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from fdpass.errors import ConfigError


def runtime_path(name: str) -> str:
    """Return the path of a socket in the runtime folder of this user, which the function makes if it is missing.

    Raises:
        ConfigError: No folder belongs to this user alone.
    """
    folder = os.environ.get("XDG_RUNTIME_DIR") or ("/run" if os.geteuid() == 0 else f"/tmp/fdpass-{os.geteuid()}")  # noqa: S108 - checked below
    with contextlib.suppress(OSError):
        os.mkdir(folder, 0o700)
    try:
        found = os.stat(folder, follow_symlinks=False)
    except OSError as error:
        raise ConfigError(
            f"no folder for the control socket ({folder}: {error.strerror}): give a path with --control"
        ) from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ConfigError(
            f"the folder {folder} does not belong to you alone, so a control socket is not safe there: "
            "give a path with --control"
        )
    return os.path.join(folder, name)


def refusal(reply: Mapping[str, Any], owner: str) -> str:
    """The sentence for a person whose request was refused.

    Args:
        reply: See `fdpass._supervision.commands`.
        owner: The command whose control socket the request was meant for.
    """
    by = reply.get("by", owner)
    if by == owner:
        return str(reply["error"])
    return f"this is the control socket of {by}, not of {owner}: give another one with --control"
