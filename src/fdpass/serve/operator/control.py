"""The server's side of the control socket: a `CommandServer` at its path. The client's side is in `client`."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Mapping
from typing import Any

from fdpass._supervision.commands import CommandServer, control_socket
from fdpass._supervision.loop import Loop
from fdpass.errors import AddressInUse
from fdpass.serve.operator import takeover

Reply = Callable[[Mapping[str, Any]], None]
Command = Callable[[Mapping[str, Any], Reply], None]


class ControlServer(CommandServer):
    """Listens at the control socket, and runs a command for each request.

    Args:
        loop: The dispatcher's event loop.
        path: The path of the control socket.
        commands: A function for each verb. It calls its `Reply` once, at once or later.
        sock: The control socket, if `bound` has made it already. Given.

    Attributes:
        path: The absolute path of the control socket.

    Raises:
        AddressInUse: Another server, which is not stopping, has this socket.
        CallFailed: bind(2) failed.
    """

    def __init__(
        self, loop: Loop, path: str, commands: Mapping[str, Command], sock: socket.socket | None = None
    ) -> None:
        super().__init__(loop, bound(path) if sock is None else sock, commands, "fdpass serve")
        self.path = os.path.abspath(path)


def bound(path: str) -> socket.socket:
    """Make the control socket, which listens.

    Raises:
        AddressInUse: Another server, which is not stopping, has this socket; or the file is no socket.
        CallFailed: bind(2) failed.
    """
    try:
        return control_socket(path)
    except AddressInUse as error:
        if _is_other_file(path):
            raise AddressInUse(
                errno.EADDRINUSE, f"--control {path}: the file exists, and is no socket; give another path"
            ) from error
        if takeover.free(path):
            with contextlib.suppress(AddressInUse):  # a third server was faster
                return control_socket(path)
        raise AddressInUse(
            errno.EADDRINUSE,
            f"another server has the control socket {path}: give this server its own with --control PATH",
        ) from error


def _is_other_file(path: str) -> bool:
    try:
        return not path.startswith("@") and not stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:  # the file has been removed meanwhile
        return False
