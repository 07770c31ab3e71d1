"""What a server takes from one that is stopping, without a wait for its end: control socket and addresses."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

from fdpass._sockets import identity_of, locking_directory
from fdpass.errors import AddressInUse, FdpassError
from fdpass.serve.operator.client import connected

log = logging.getLogger("fdpass.serve")

_PATIENCE = 2.0  # seconds: a server whose loop runs replies within milliseconds
_LONGEST_DRAIN = 10.0  # seconds: a stopping server hands out its backlogs before it closes its listeners
_PAUSE = 0.05

_Listeners = TypeVar("_Listeners")


def listen_after(path: str, listen: Callable[[], _Listeners]) -> _Listeners:
    """Listen; if an address is in use, try again while the server of the control socket is stopping.

    Args:
        path: The path of the control socket of both servers.
        listen: Listens at the addresses.

    Raises:
        AddressInUse: Another server listens there, or the server that is stopping still does after 10 seconds.
    """
    latest, waits = time.monotonic() + _LONGEST_DRAIN, False
    while True:
        try:
            return listen()
        except AddressInUse:
            if time.monotonic() > latest or not _is_stopping(path):
                raise
        if not waits:
            waits = True
            log.info("waiting until the server that is stopping closes its listeners")
        time.sleep(_PAUSE)


def free(path: str) -> bool:
    """Remove the socket file at a path if its server says that it is stopping.

    That server keeps the clients that it has. It does not remove the next server's file at its end.

    Args:
        path: The path, at which a server listens.

    Returns:
        Whether the path is free.
    """
    file = identity_of(path)
    if file is None or not _is_stopping(path):
        return False
    try:
        with contextlib.ExitStack() as held:
            for seconds in locking_directory(path, held):  # another server may take the path meanwhile
                time.sleep(seconds)
            if identity_of(path) == file:
                os.unlink(path)
    except OSError:  # the file is another user's
        return False
    return True


def _is_stopping(path: str) -> bool:
    try:
        with connected(path, _PATIENCE) as channel:
            if channel.peer.uid not in {0, os.geteuid()}:
                return False  # another user could let this process remove the file, or wait for ever
            channel.settimeout(_PATIENCE)
            channel.send(json.dumps({"do": "status"}).encode())
            return json.loads(channel.recv().data)["server"]["stopping"] is True
    except (FdpassError, ValueError, KeyError, TypeError, RecursionError):
        return False
