"""The server's side of the control socket: a `CommandServer` at its path. The client's side is in `client`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from fdpass._sockets import bound_socket
from fdpass._supervision.commands import CommandServer
from fdpass._supervision.loop import Loop
from fdpass.errors import AddressInUse
from fdpass.serve.operator import takeover

Reply = Callable[[Mapping[str, Any]], None]
Command = Callable[[Mapping[str, Any], Reply], None]

_UNKNOWN = "a server of this version does not know this request"


class ControlServer(CommandServer):
    """Listens at the control socket, and runs a command for each request.

    Args:
        loop: The dispatcher's event loop.
        path: The path of the control socket.
        commands: A function for each verb. It calls its `Reply` once, at once or later.

    Attributes:
        path: The absolute path of the control socket.

    Raises:
        AddressInUse: Another server, which is not stopping, has this socket.
        CallFailed: bind(2) failed.
    """

    def __init__(self, loop: Loop, path: str, commands: Mapping[str, Command]) -> None:
        super().__init__(loop, _bound(path), commands, _UNKNOWN)
        self.path = os.path.abspath(path)


def _bound(path: str) -> socket.socket:
    try:
        return _listening(path)
    except AddressInUse as error:
        if takeover.free(path):
            with contextlib.suppress(AddressInUse):  # a third server was faster
                return _listening(path)
        raise AddressInUse(
            errno.EADDRINUSE,
            f"another server has the control socket {path}: give this server its own with --control PATH",
        ) from error


def _listening(path: str) -> socket.socket:
    return bound_socket(path, "seqpacket", 0o600, 16)
