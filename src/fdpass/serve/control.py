"""The control socket: one request, one reply, in JSON over a channel. Both sides: the server's and the command's.

Whoever may connect (the server's own user, or root) may do everything. A request is ``{"do": VERB, ...}``; a
reply is ``{"ok": true, ...}`` or ``{"ok": false, "error": SENTENCE}``, and comes when the outcome is known.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from fdpass._conversation import Conversation
from fdpass._sockets import SocketFile, accepted, bound_socket, identity_of, unlink_own
from fdpass.channel import Channel
from fdpass.errors import AddressInUse, ConfigError, FdpassError, NotFound, NotListening, PeerClosed, RequestFailed
from fdpass.listening import admitted, connect
from fdpass.peer import same_user
from fdpass.serve.loop import Loop, Timer

Reply = Callable[[Mapping[str, Any]], None]
Act = Callable[[Mapping[str, Any], Reply], None]

_LONGEST = 65536  # bytes of a request
_MOST = 64  # clients at a time
_ROOM_SECONDS = 0.1  # until the next look for a free descriptor
_DONTWAIT = int(socket.MSG_DONTWAIT)


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
                98, f"the control socket {path} is another server's: give this one its own, with --control PATH"
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
