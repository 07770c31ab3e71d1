"""The client's side of the control socket, for the command line. `CommandServer` has the other."""

from __future__ import annotations

import json
from typing import Any

from fdpass._channel import Channel
from fdpass._listening import connect
from fdpass._supervision.runtime import runtime_path
from fdpass.errors import NotFound, NotListening, PeerClosed, RequestFailed


def default_path() -> str:
    """Return the default path of the control socket, in the user's own runtime folder.

    Raises:
        ConfigError: No folder belongs to this user alone.
    """
    return runtime_path("fdpass.sock")


def ask(path: str, verb: str, **arguments: Any) -> dict[str, Any]:
    """Send a request to a server, and wait for the outcome.

    Args:
        path: The path of the server's control socket; "" for the default path.
        verb: What the server is to do.
        **arguments: The arguments of the verb.

    Returns:
        The server's reply.

    Raises:
        RequestFailed: The server could not do it; the sentence says why.
        NotFound: There is no control socket at this path.
        NotListening: The server of this control socket has ended.
        NotPermitted: The control socket is another user's.
        PeerClosed: The server ended before it answered.
    """
    with connected(path) as channel:
        channel.send(json.dumps({"do": verb, **arguments}).encode())
        try:
            reply: dict[str, Any] = json.loads(channel.recv().data)
        except PeerClosed as error:
            raise PeerClosed("the server ended before it answered") from error
    if not reply.pop("ok"):
        raise RequestFailed(reply["error"])
    return reply


def connected(path: str) -> Channel:
    """Connect to a server's control socket; errors as of `ask`."""
    where = path or default_path()
    try:
        return connect(where, max_fds=0)
    except (NotFound, NotListening) as error:
        raise type(error)(
            error.errno, f"no server answers at {where}: start one, or give its control socket with --control"
        ) from error
