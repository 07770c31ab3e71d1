"""`Poller`: the connections of a worker in an epoll set of their own, which its loop watches as one descriptor.

It is the same on every loop, and a connection that waits in it costs its loop nothing.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

_MOST = 256  # events until the loop gets its turn


class Poller:
    """One epoll set.

    Args:
        loop: The running loop.

    Attributes:
        loop: See above.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[int, int], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._poll)

    def watch(self, number: int, events: int, call: Callable[[int, int], None]) -> None:
        """From now on, call this with the descriptor and with what has come of these events.

        Args:
            number: The descriptor. Lent, until `unwatch`.
            events: EPOLLIN, EPOLLOUT; EPOLLERR and EPOLLHUP come unasked.
            call: May be called without reason: what has come may be over. Must not raise.
        """
        if number in self._calls:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._calls[number] = call

    def unwatch(self, number: int) -> None:
        """Before the descriptor is closed: the open file, which others have too, would stay in the set."""
        self._epoll.unregister(number)
        del self._calls[number]

    def _poll(self) -> None:
        calls = self._calls
        for number, events in self._epoll.poll(0, _MOST):
            call = calls.get(number)
            if call is not None:  # else one before it has ended this
                call(number, events)

    def close(self) -> None:
        """Watch nothing any more."""
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._calls.clear()
