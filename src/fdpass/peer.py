"""`Peer`: who is at the other end of a Unix socket, and `Allow`: who may be."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from fdpass.errors import translated
from fdpass.fd import Fd

_UCRED = struct.Struct("iII")
_SO_PEERPIDFD = 77  # Linux 6.5; CPython has no name for it


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
    """

    pid: int
    uid: int
    gid: int
    pidfd: Fd | None = field(default=None, compare=False)

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Ask the kernel who is behind a connected Unix socket.

        Raises:
            CallFailed: It is not connected, or no Unix socket.
        """
        try:
            pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        except OSError as error:
            raise translated(error, "cannot tell who the peer is") from error
        return cls(pid, uid, gid, _pidfd(sock))

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
    except (
        OSError
    ):  # ENOPROTOOPT: an older kernel. ESRCH, EINVAL: the process has ended. ENODATA: a pair's own end
        return None


@dataclass(frozen=True, slots=True)
class Allow:
    """A rule: the peer's user is one of ``uids``, or its group one of ``gids``.

    Only the effective group counts, not the supplementary ones: the kernel does not vouch for those here.
    """

    uids: Collection[int] = ()
    gids: Collection[int] = ()

    def __call__(self, peer: Peer) -> bool:
        """Whether this peer may connect."""
        return peer.uid in self.uids or peer.gid in self.gids


Rule = Callable[[Peer], bool]


def same_user(peer: Peer) -> bool:
    """The default rule: our own effective user, or root."""
    return peer.uid in {0, os.geteuid()}
