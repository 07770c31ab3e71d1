"""`ChannelBase`: the common part of `Channel` and `AsyncChannel`; each of the two adds how to wait."""

from __future__ import annotations

import socket
from typing import NoReturn, Self, Unpack

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import Conversation
from fdpass._errors import Closed
from fdpass._options import MAX_MESSAGE, ChannelOptions
from fdpass._pair import SocketType, socket_pair
from fdpass._peer import Peer
from fdpass._policy import Policy
from fdpass._waiting import tell_after_fork


class ChannelBase:
    """One end of a connection, and the state of the channel over it. Parameters: see `fdpass.Channel`."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        acknowledged: bool = False,
        max_message: int = MAX_MESSAGE,
        max_fds: int = MAX_FDS,
        policy: Policy | None = None,
    ) -> None:
        self._conversation = Conversation(
            sock, acknowledged=acknowledged, max_message=max_message, max_fds=max_fds, policy=policy
        )
        self._reading = False  # True while one thread or task reads for all that wait
        tell_after_fork(self)

    @classmethod
    def pair(cls, type: SocketType = "seqpacket", **options: Unpack[ChannelOptions]) -> tuple[Self, Self]:  # noqa: A002
        """Make two channels that are connected to each other.

        Args:
            type: ``"seqpacket"`` or ``"stream"``.
            **options: Parameters of the constructor, for both channels.

        Returns:
            The two channels; close both.

        Raises:
            InvalidMessage: ``type`` is unknown, or a bound is negative.
            CallFailed: No descriptor slots are free (EMFILE).
        """
        one, other = socket_pair(type)
        try:
            return cls(one, **options), cls(other, **options)
        except BaseException:
            one.close()
            other.close()
            raise

    def fileno(self) -> int:
        """The socket's number, lent, for poll(2). -1 once the channel is closed."""
        return self._conversation.sock.fileno()

    @property
    def peer(self) -> Peer:
        """The process at the other end, as it was when the connection was made. Lent: the channel closes it.

        Both ends of a pair were connected by the process that made the pair. So the peer of either end is this
        process, also in its child that was forked later, and for the end that only the child has kept.

        Raises:
            Closed: The channel is closed.
            CallFailed: No descriptor slot is free for the pidfd (EMFILE).
        """
        self._check_open()
        return self._conversation.peer

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self.fileno() < 0

    def __reduce__(self) -> NoReturn:  # used by pickle and by both functions of copy
        raise TypeError(f"{type(self).__name__} owns a socket, and cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self.closed else self.fileno()}>"

    def _after_fork(self) -> None:
        """Leave the frames that wait to the parent, which sends them. For `tell_after_fork`."""
        self._reading = False
        self._conversation.out.after_fork()

    def _check_open(self) -> None:
        if self.closed:
            raise Closed("this channel is closed")
