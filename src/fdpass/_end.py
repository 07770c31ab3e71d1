"""`End`: what a blocking and an async channel are alike in; each adds how to wait."""

from __future__ import annotations

import socket
from typing import Any, Self

from fdpass._ancillary import MAX_FDS
from fdpass._conversation import MAX_MESSAGE, Conversation
from fdpass._errors import Closed
from fdpass._pair import SocketType, socket_pair
from fdpass._peer import Peer
from fdpass._policy import Policy


class End:
    """One end of a connection, and the conversation that goes over it. Parameters as of `fdpass.Channel`."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        acknowledged: bool = False,
        max_message: int = MAX_MESSAGE,
        max_fds: int = MAX_FDS,
        policy: Policy | None = None,
    ) -> None:
        self._talk = Conversation(
            sock, acknowledged=acknowledged, max_message=max_message, max_fds=max_fds, policy=policy
        )
        self._reading = False  # somebody reads, for all that wait

    @classmethod
    def pair(cls, type: SocketType = "seqpacket", **options: Any) -> tuple[Self, Self]:  # noqa: A002
        """Two channels, connected to each other.

        Args:
            type: ``"seqpacket"`` or ``"stream"``.
            **options: As of the constructor, for both.
        """
        one, other = socket_pair(type)
        try:
            return cls(one, **options), cls(other, **options)
        except BaseException:
            one.close()
            other.close()
            raise

    def fileno(self) -> int:
        """The socket's number, lent: for poll(2). -1 once closed."""
        return self._talk.sock.fileno()

    @property
    def peer(self) -> Peer:
        """Who is at the other end, as it was when the connection was made. Lent: it is closed with the channel."""
        self._check_open()
        return self._talk.peer

    @property
    def closed(self) -> bool:
        """True once `close` was called."""
        return self.fileno() < 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self.closed else self.fileno()}>"

    def _check_open(self) -> None:
        if self.closed:
            raise Closed("this channel is closed")
