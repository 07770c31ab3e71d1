"""`Peer`: who is at the other end of a Unix socket, and `Allow`: who may be."""

import errno
import os
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from fdpass._errors import CallFailed, translated
from fdpass._fd import Fd

_UCRED = struct.Struct("iII")
_SO_PEERPIDFD = 77  # Linux 6.5; CPython has no name for it, nor for the next
_SO_PEERGROUPS = 59  # Linux 4.13
_NOBODY = 0xFFFFFFFF
_NO_ROOM = {errno.ENFILE, errno.EMFILE}


@dataclass(frozen=True, slots=True)
class Peer:
    """A process, as the kernel saw it when the connection was made (unix(7), SO_PEERCRED).

    Attributes:
        pid: Its number in our pid namespace; 0 if it has none there. It may have ended since, and the number
            may be another's by now: use the pidfd.
        uid: Its effective user.
        gid: Its effective group.
        pidfd: Stands for the process itself, without that race (SO_PEERPIDFD, Linux 6.5), or None. The `Peer`
            owns it: `close` it, or use the `Peer` as a context manager.
        groups: Its supplementary groups, unless they are more than 256 (SO_PEERGROUPS, Linux 4.13).
    """

    pid: int
    uid: int
    gid: int
    pidfd: Fd | None = field(default=None, compare=False)
    groups: tuple[int, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Ask the kernel who is behind a connected Unix socket.

        Raises:
            CallFailed: It has no peer (ENOTCONN: not connected, or no Unix socket), or no descriptor slot is
                free for the pidfd (EMFILE).
        """
        try:
            pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            pidfd = None if uid == _NOBODY else _pidfd(sock)
        except OSError as error:
            raise translated(error, "cannot tell who the peer is") from error
        if uid == _NOBODY:  # what the kernel says of a socket without peer, as if it were an answer
            raise CallFailed(errno.ENOTCONN, "cannot tell who the peer is: no Unix socket, or not connected")
        return cls(pid, uid, gid, pidfd, _groups(sock))

    def close(self) -> None:
        """Close the pidfd, if there is one. Twice does nothing."""
        if self.pidfd is not None:
            self.pidfd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()


def _pidfd(sock: socket.socket) -> Fd | None:
    try:
        return Fd(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
        return None  # ENOPROTOOPT: an older kernel. ESRCH, EINVAL: the process has ended


def _groups(sock: socket.socket) -> tuple[int, ...]:
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
    except OSError:  # ERANGE: more than CPython's getsockopt has room for
        return ()
    return tuple(group for (group,) in struct.iter_unpack("=I", raw))


@dataclass(frozen=True, slots=True)
class Allow:
    """A rule: the peer's user is one of ``uids``, or one of its groups, effective or supplementary, of ``gids``.

    Nobody else is admitted: neither your own user nor root, unless they are among these.
    """

    uids: Collection[int] = ()
    gids: Collection[int] = ()

    def __call__(self, peer: Peer) -> bool:
        """Whether this peer may connect."""
        return peer.uid in self.uids or any(group in self.gids for group in (peer.gid, *peer.groups))


Rule = Callable[[Peer], bool]


def same_user(peer: Peer) -> bool:
    """The default rule: our own effective user, or root."""
    return peer.uid in {0, os.geteuid()}
