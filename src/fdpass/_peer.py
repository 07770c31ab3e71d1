"""`Peer`: the process at the other end of a Unix socket; `Allow` and the default rule: which peers may connect."""

import errno
import functools
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
_ALL = 0xFFFFFFFF  # how many users the first user namespace maps: all but -1
_NO_ROOM = {errno.ENFILE, errno.EMFILE}


@dataclass(frozen=True, slots=True)
class Peer:
    """A process, as the kernel saw it when the connection was made (unix(7), SO_PEERCRED).

    Attributes:
        pid: Its number in your pid namespace; 0 if it has none there. If the process has ended since, another
            process may have the number: use the pidfd.
        uid: Its effective user.
        gid: Its effective group.
        pidfd: A descriptor of the process, which always means this process (SO_PEERPIDFD, Linux 6.5); None on
            older kernels, or if the process has ended. The `Peer` owns it: close the `Peer`.
        groups: Its supplementary groups (SO_PEERGROUPS, Linux 4.13); empty if there are more than 256.
    """

    pid: int
    uid: int
    gid: int
    pidfd: Fd | None = field(default=None, compare=False)
    groups: tuple[int, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, sock: socket.socket) -> Self:
        """Ask the kernel which process is at the other end of a connected Unix socket.

        Args:
            sock: The socket, lent.

        Returns:
            The peer; close it.

        Raises:
            CallFailed: The socket has no peer (ENOTCONN: not connected, or no Unix socket), or no descriptor slot
                is free for the pidfd (EMFILE).
        """
        try:
            pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            pidfd = None if uid == _NOBODY else _pidfd(sock)
        except OSError as error:
            raise translated(error, "cannot tell who the peer is") from error
        if uid == _NOBODY:  # the kernel reports user -1, and no error, for a socket without a peer
            raise CallFailed(errno.ENOTCONN, "cannot tell who the peer is: pass a connected Unix socket")
        return cls(pid, uid, gid, pidfd, _groups(sock))

    def close(self) -> None:
        """Close the pidfd, if there is one. A second call does nothing."""
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
    """A rule that admits peers by user or group, and no others: your own user and root only if they are named.

    In a user namespace the kernel shows each user and each group that the namespace does not map as 65534
    (/proc/sys/fs/overflowuid). There this number is nobody's identity, and the rule admits no peer by it.

    Attributes:
        uids: The users that are admitted.
        gids: The groups that are admitted: a peer's effective group or one of its supplementary groups.
    """

    uids: Collection[int] = ()
    gids: Collection[int] = ()

    def __call__(self, peer: Peer) -> bool:
        """Whether the rule admits this peer."""
        return (peer.uid in self.uids and _is_identity(peer.uid, "uid")) or any(
            group in self.gids and _is_identity(group, "gid") for group in (peer.gid, *peer.groups)
        )


Rule = Callable[[Peer], bool]


def same_user(peer: Peer) -> bool:
    """The default rule, which admits this process's effective user, and root."""
    return peer.uid in {0, os.geteuid()} and _is_identity(peer.uid, "uid")


def _is_identity(number: int, kind: str) -> bool:
    """Whether a user's or a group's number is that of one user or group, and not of all that have none here.

    Without /proc the number 65534 could be either, and is no identity.
    """
    if number != _overflow(kind):
        return True
    try:
        with open(f"/proc/self/{kind}_map", encoding="ascii") as mapping:
            return sum(int(line.split()[2]) for line in mapping) >= _ALL
    except OSError:
        return False


@functools.cache
def _overflow(kind: str) -> int:
    try:
        with open(f"/proc/sys/fs/overflow{kind}", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return 65534  # DEFAULT_OVERFLOWUID of the kernel
