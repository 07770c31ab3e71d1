"""The client's side of the control socket of `fdpass keep`; `CommandServer` describes requests and replies."""

from __future__ import annotations

import json
from typing import Any

from fdpass._channel import Channel
from fdpass._listening import connect
from fdpass._message import Message
from fdpass._supervision.runtime import refusal, runtime_path
from fdpass.errors import NotFound, NotListening, PeerClosed, RequestFailed

_MOST_FDS = 2**20


def default_path() -> str:
    """Return the default path of the control socket, in the user's own runtime folder.

    Raises:
        ConfigError: No folder belongs to this user alone.
    """
    return runtime_path("fdpass-keep.sock")


def connected(path: str) -> Channel:
    """Connect to the control socket at a path; "" for the default one.

    Raises:
        NotFound: There is no control socket at this path.
        NotListening: The `fdpass keep` of this control socket has ended.
        NotPermitted: The control socket is another user's.
    """
    where = path or default_path()
    try:
        return connect(where, max_fds=_MOST_FDS)
    except (NotFound, NotListening) as error:
        raise type(error)(
            error.errno, f"no fdpass keep answers at {where}: start one, or give its control socket with --control"
        ) from error


def ask(channel: Channel, verb: str, **arguments: Any) -> tuple[dict[str, Any], Message]:
    """Send a request, and wait for the outcome.

    Returns:
        The reply, and the message that has its descriptors; close the message.

    Raises:
        RequestFailed: It could not be done; the sentence says why.
        PeerClosed: The other side ended the connection before it answered, or does not admit this user.
    """
    try:
        channel.send(json.dumps({"do": verb, **arguments}).encode())
        message = channel.recv()
    except PeerClosed as error:
        raise PeerClosed(
            "fdpass keep ended the connection before it answered: it stops, or belongs to another user"
        ) from error
    reply: dict[str, Any] = json.loads(message.data)
    if not reply.pop("ok"):
        message.close()
        raise RequestFailed(refusal(reply, "fdpass keep"))
    return reply, message
