"""`CommandServer`: one JSON request and one JSON reply at a time, over channels to the socket at which it listens.

The process's own user and root can connect, and can do everything. A request is ``{"do": VERB, ...}``. A reply is
``{"ok": true, ...}`` or ``{"ok": false, "error": SENTENCE}``, sent when the outcome is known; it can carry
descriptors. A reply to a request of an unknown verb has ``"by": COMMAND``, which says whose socket it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fdpass._admission import admitted
from fdpass._conversation import Conversation
from fdpass._fd import Fd
from fdpass._peer import same_user
from fdpass._sockets import SocketFile, accepted, bound_socket, identity_of, readable, unlink_own
from fdpass._supervision.loop import Loop, Timer
from fdpass.errors import AddressInUse, CallFailed, FdpassError


class Reply(Protocol):
    """Sends the reply to one request."""

    def __call__(self, content: Mapping[str, Any], fds: Sequence[Fd] = (), /) -> None:
        """Send the reply, with descriptors, which are lent."""


Command = Callable[[Mapping[str, Any], Reply], None]

_MAX_REQUEST = 65536  # bytes
_MAX_CLIENTS = 64
_ACCEPT_PAUSE = 0.1  # seconds until the next try after accept(2) has failed
_DONTWAIT = int(socket.MSG_DONTWAIT)


def control_socket(path: str) -> socket.socket:
    """Make a control socket, which listens.

    Raises:
        AddressInUse: A program listens at the path already, or the file is no socket.
        CallFailed: bind(2) failed.
    """
    try:
        return bound_socket(path, "seqpacket", 0o600, 16)
    except AddressInUse:
        raise
    except CallFailed as error:
        raise type(error)(
            error.errno, f"the control socket: {error.strerror}; give another path with --control"
        ) from error


class CommandServer:
    """Listens at a socket, and runs a command for each request.

    Args:
        loop: Event loop of the process.
        sock: The listening socket, seqpacket. Owned.
        commands: A function for each verb. It calls its `Reply` once, at once or later.
        owner: The command whose socket it is: ``fdpass serve``.

    Attributes:
        path: The absolute path of the socket; an abstract address as it is.
    """

    def __init__(self, loop: Loop, sock: socket.socket, commands: Mapping[str, Command], owner: str) -> None:
        self._loop = loop
        self._commands = commands
        self._owner = owner
        self._clients: set[Conversation] = set()
        self._sock = sock
        name = readable(sock.getsockname())
        self.path = name if name.startswith("@") else os.path.abspath(name)
        self._file: SocketFile | None = identity_of(sock.getsockname())
        self._sock.setblocking(False)
        self._pause: Timer | None = None
        self._watch()

    def _watch(self) -> None:
        self._loop.watch(self._sock.fileno(), self._on_client)

    def close(self) -> None:
        """Remove the socket, and disconnect its clients."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.unwatch(self._sock.fileno())
        unlink_own(self._sock, self._file)
        self._sock.close()
        for client in list(self._clients):
            self._drop(client)

    def _on_client(self) -> None:
        try:
            sock = accepted(self._sock)
        except OSError:  # the descriptor table is full, and no event says when it no longer is
            self._loop.unwatch(self._sock.fileno())
            self._pause = self._loop.call_later(_ACCEPT_PAUSE, self._watch)
            return
        try:
            if sock is None or not admitted(sock, same_user):
                return
        except (FdpassError, OSError):
            return  # the client has disconnected
        client = Conversation(sock, acknowledged=False, max_message=_MAX_REQUEST, max_fds=0, policy=None)
        if len(self._clients) >= _MAX_CLIENTS:
            self._write(client, {"ok": False, "error": f"{self.path} has {_MAX_CLIENTS} clients already"})
            client.close()
            return
        self._clients.add(client)
        self._loop.watch(sock.fileno(), lambda: self._on_request(client))

    def _on_request(self, client: Conversation) -> None:
        try:
            client.pull(_DONTWAIT)
            while client.inbox and client in self._clients:
                self._run(client, client.take().data)
        except FdpassError:
            self._refuse(client)
        if client.ended is not None:
            self._drop(client)

    def _run(self, client: Conversation, data: bytes) -> None:
        try:
            request = json.loads(data)
            command = self._commands[request["do"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            self._refuse(client)
        else:
            command(request, lambda content, fds=(): self._send(client, content, fds))

    def _refuse(self, client: Conversation) -> None:
        unknown = f"{self._owner} of this version does not know this request"
        self._send(client, {"ok": False, "error": unknown, "by": self._owner})
        self._drop(client)

    def _send(self, client: Conversation, content: Mapping[str, Any], fds: Sequence[Fd] = ()) -> None:
        if client in self._clients:
            self._write(client, content, fds)

    def _write(self, client: Conversation, content: Mapping[str, Any], fds: Sequence[Fd] = ()) -> None:
        with contextlib.suppress(FdpassError):  # the client has disconnected: the loop reports that too
            message = client.out.prepare(json.dumps(content).encode(), fds)
            try:
                client.queue(message)
                if client.push() != "sent":  # the client does not read its replies
                    self._drop(client)
            finally:
                message.close()

    def _drop(self, client: Conversation) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._loop.unwatch(client.sock.fileno())
            client.close()
