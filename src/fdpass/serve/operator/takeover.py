"""Free the path of a control socket whose server is stopping: the next server need not wait for its end."""

from __future__ import annotations

import contextlib
import json
import os
import time

from fdpass._sockets import identity_of, locking_directory
from fdpass.errors import FdpassError
from fdpass.serve.operator.client import connected

_PATIENCE = 2.0  # seconds: a server whose loop runs replies within milliseconds


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
        with connected(path) as channel:
            if channel.peer.uid not in {0, os.geteuid()}:
                return False  # another user could let this process remove the file, or wait for ever
            channel.settimeout(_PATIENCE)
            channel.send(json.dumps({"do": "status"}).encode())
            return json.loads(channel.recv().data)["server"]["stopping"] is True
    except (FdpassError, ValueError, KeyError, TypeError, RecursionError):
        return False
