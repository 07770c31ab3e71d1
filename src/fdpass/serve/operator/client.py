"""The client's side of the control socket, for the command line. `CommandServer` has the other."""

from __future__ import annotations

import glob
import json
import os
from contextlib import suppress
from typing import Any

from fdpass._channel import Channel
from fdpass._listening import connect
from fdpass._supervision.runtime import refusal, runtime_path
from fdpass.errors import ConfigError, FdpassError, NotFound, NotListening, PeerClosed, RequestFailed

_REPEATABLE = {"status", "events", "scale", "reload"}  # asked again if a dispatcher dies: another one follows
_TRIES = 3
_PATIENCE = 2.0  # seconds: a server whose loop runs replies within milliseconds


def default_path() -> str:
    """Return the default path of the control socket, in the user's own runtime folder.

    Raises:
        ConfigError: No folder belongs to this user alone.
    """
    return runtime_path("fdpass.sock")


def ask(path: str, verb: str, **arguments: Any) -> dict[str, Any]:
    """Send a request to a server, and wait for the outcome. If a dispatcher dies meanwhile, the next one is asked.

    Args:
        path: The path of the server's control socket; "" for the only server at the default paths.
        verb: What the server is to do.
        **arguments: The arguments of the verb.

    Returns:
        The server's reply.

    Raises:
        ConfigError: Several servers have control sockets at default paths, and no path was given.
        RequestFailed: The server could not do it; the sentence says why.
        NotFound: There is no control socket at this path.
        NotListening: The server of this control socket has ended.
        NotPermitted: The control socket is another user's.
        PeerClosed: The server ended before it answered; or its dispatcher did, and this request is not repeated.
    """
    for _ in range(_TRIES if verb in _REPEATABLE else 1):
        with connected(path) as channel, suppress(PeerClosed):
            return ask_through(channel, verb, **arguments)
        if status_at(path or only_path()) is None:
            raise PeerClosed("the server ended before it answered")
    raise PeerClosed("the dispatcher ended before it answered; the server goes on: see fdpass status")


def ask_through(channel: Channel, verb: str, **arguments: Any) -> dict[str, Any]:
    """As `ask`, over a connection that is there. Lent."""
    try:
        with suppress(PeerClosed):  # a server that has too many clients has replied already
            channel.send(json.dumps({"do": verb, **arguments}).encode())
        reply: dict[str, Any] = json.loads(channel.recv().data)
    except PeerClosed as error:
        raise PeerClosed("the server ended before it answered") from error
    if not reply.pop("ok"):
        raise RequestFailed(refusal(reply, "fdpass serve"))
    return reply


def connected(path: str, timeout: float | None = None) -> Channel:
    """Connect to a server's control socket, for so many seconds; errors as of `ask`, and Timeout."""
    where = path or only_path()
    try:
        return connect(where, timeout=timeout, max_fds=0)
    except (NotFound, NotListening) as error:
        raise type(error)(
            error.errno,
            f"no server answers at {where}: start one, or give its control socket with --control "
            "(fdpass list shows all servers)",
        ) from error


def only_path() -> str:
    """Return the path of the only control socket at a default path at which a server answers.

    A server has `default_path`, or if another one had it first, that path with its address.

    Raises:
        ConfigError: Several servers answer.
    """
    first = default_path()
    others = glob.glob(glob.escape(first.removesuffix(".sock")) + "-*:*.sock")
    paths = [path for path in (first, *sorted(others)) if os.path.exists(path)]
    if len(paths) <= 1:
        return paths[0] if paths else first
    found = [(path, status) for path in paths if (status := status_at(path)) is not None]
    if len(found) > 1:
        names = [
            f"{path} ({status['server']['app']} at {status['server']['listeners'][0]})" for path, status in found
        ]
        raise ConfigError(f"several servers run: choose one with --control: {' or '.join(names)}")
    return found[0][0] if found else first


def status_at(path: str) -> dict[str, Any] | None:
    """Return the status of the server whose control socket is at a path; None if none replies within 2 s."""
    try:
        with connected(path, _PATIENCE) as channel:
            if channel.peer.uid not in {0, os.geteuid()} and os.geteuid() != 0:
                return None
            channel.settimeout(_PATIENCE)
            found = ask_through(channel, "status")
    except (FdpassError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return found if isinstance(found.get("server"), dict) else None
