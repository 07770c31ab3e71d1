"""The client's side of the control socket: what the command line needs of a running server.

See `control` for requests and replies.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from fdpass._channel import Channel
from fdpass._listening import connect
from fdpass.errors import ConfigError, NotFound, NotListening, PeerClosed, RequestFailed


def default_path() -> str:
    """Where the control socket is, if nobody says: in the user's own runtime folder.

    Raises:
        ConfigError: There is no folder for it that is the user's alone.
    """
    folder = os.environ.get("XDG_RUNTIME_DIR") or ("/run" if os.geteuid() == 0 else f"/tmp/fdpass-{os.geteuid()}")  # noqa: S108 - checked below
    with contextlib.suppress(OSError):
        os.mkdir(folder, 0o700)
    try:
        found = os.stat(folder, follow_symlinks=False)
    except OSError as error:
        raise ConfigError(
            f"no folder for the control socket ({folder}: {error.strerror}): give --control"
        ) from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ConfigError(f"{folder} is not your own alone, so not safe for the control socket: give --control")
    return os.path.join(folder, "fdpass.sock")


def ask(path: str, verb: str, **arguments: Any) -> dict[str, Any]:
    """Ask a server, and wait for the outcome.

    Args:
        path: Of its control socket; "" is where it is if nobody said.
        verb: What to do.
        **arguments: What the verb needs.

    Returns:
        What the server answered.

    Raises:
        RequestFailed: It could not do it, and says why.
        NotFound: No server is there, nor was.
        NotListening: The server that was there has ended.
        NotPermitted: It is another user's.
        PeerClosed: It ended before it answered.
    """
    with connected(path) as channel:
        channel.send(json.dumps({"do": verb, **arguments}).encode())
        try:
            answer: dict[str, Any] = json.loads(channel.recv().data)
        except PeerClosed as error:
            raise PeerClosed("the server ended before it answered") from error
    if not answer.pop("ok"):
        raise RequestFailed(answer["error"])
    return answer


def connected(path: str) -> Channel:
    """A channel to a server's control socket; errors as of `ask`."""
    where = path or default_path()
    try:
        return connect(where, max_fds=0)
    except (NotFound, NotListening) as error:
        raise type(error)(
            error.errno, f"no server answers at {where}: start one, or say which with --control"
        ) from error
