"""The control socket, the server's side (commands use `client`): one request, one reply, in JSON over a channel.

Whoever may connect (the server's own user, or root) may do everything. A request is ``{"do": VERB, ...}``; a
reply is ``{"ok": true, ...}`` or ``{"ok": false, "error": SENTENCE}``, and comes when the outcome is known.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from fdpass._admission import admitted
from fdpass._conversation import Conversation
from fdpass._peer import same_user
from fdpass._sockets import SocketFile, accepted, bound_socket, identity_of, unlink_own
from fdpass.errors import AddressInUse, FdpassError
from fdpass.serve.dispatcher.loop import Loop, Timer

Reply = Callable[[Mapping[str, Any]], None]
Act = Callable[[Mapping[str, Any], Reply], None]

_LONGEST = 65536  # bytes of a request
_MOST = 64  # clients at a time
_ROOM_SECONDS = 0.1  # until the next look for a free descriptor
_DONTWAIT = int(socket.MSG_DONTWAIT)


class ControlServer:
    """The server's side.

    Args:
        loop: Where it waits.
        path: Of the socket.
        acts: What is done for each verb. Each calls its `Reply` once, now or later.

    Raises:
        AddressInUse: Another server has this socket.
        CallFailed: bind(2) failed.
    """

    def __init__(self, loop: Loop, path: str, acts: Mapping[str, Act]) -> None:
        self._loop = loop
        self._acts = acts
        self._clients: set[Conversation] = set()
        self.path = os.path.abspath(path)
        try:
            self._sock = bound_socket(path, "seqpacket", 0o600, 16)
        except AddressInUse as error:
            raise AddressInUse(
                errno.EADDRINUSE,
                f"the control socket {path} is another server's: give this one its own, with --control PATH",
            ) from error
        self._file: SocketFile | None = identity_of(self._sock.getsockname())
        self._sock.setblocking(False)
        self._pause: Timer | None = None
        self._watch()

    def _watch(self) -> None:
        self._loop.watch(self._sock.fileno(), self._on_client)

    def close(self) -> None:
        """Remove the socket, and drop its clients."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.unwatch(self._sock.fileno())
        unlink_own(self._sock, self._file)
        self._sock.close()
        for talk in list(self._clients):
            self._drop(talk)

    def _on_client(self) -> None:
        try:
            sock = accepted(self._sock)
        except OSError:  # there is no descriptor free, and nothing tells when there is
            self._loop.unwatch(self._sock.fileno())
            self._pause = self._loop.call_later(_ROOM_SECONDS, self._watch)
            return
        try:
            if sock is None or not admitted(sock, same_user):
                return
        except (FdpassError, OSError):
            return  # it went away: it will see its end
        if len(self._clients) >= _MOST:
            sock.close()
            return
        talk = Conversation(sock, acknowledged=False, max_message=_LONGEST, max_fds=0, policy=None)
        self._clients.add(talk)
        self._loop.watch(sock.fileno(), lambda: self._on_request(talk))

    def _on_request(self, talk: Conversation) -> None:
        try:
            talk.pull(_DONTWAIT)
            while talk.inbox and talk in self._clients:
                self._do(talk, talk.take().data)
        except FdpassError:
            self._refuse(talk)
        if talk.ended is not None:
            self._drop(talk)

    def _do(self, talk: Conversation, data: bytes) -> None:
        try:
            request = json.loads(data)
            act = self._acts[request["do"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            self._refuse(talk)
        else:
            act(request, lambda reply: self._answer(talk, reply))

    def _refuse(self, talk: Conversation) -> None:
        self._answer(talk, {"ok": False, "error": "this is no request that a server of this version knows"})
        self._drop(talk)

    def _answer(self, talk: Conversation, reply: Mapping[str, Any]) -> None:
        if talk not in self._clients:
            return
        with contextlib.suppress(FdpassError):  # it has gone: its end will be seen
            message = talk.out.prepare(json.dumps(reply).encode(), ())
            try:
                talk.queue(message)
                if talk.push() != "sent":  # it does not read
                    self._drop(talk)
            finally:
                message.close()

    def _drop(self, talk: Conversation) -> None:
        if talk in self._clients:
            self._clients.discard(talk)
            self._loop.unwatch(talk.sock.fileno())
            talk.close()
