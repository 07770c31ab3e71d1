"""`Poller`: a worker's connections in an epoll set of their own, which the event loop watches as one descriptor.

It works alike on every event loop, and a connection that waits in it costs the loop nothing.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.forks import FORKS

_EVENTS_MAX = 256  # handled at once; then the loop gets its turn


class Poller:
    """One epoll set.

    Args:
        loop: The running loop.

    Attributes:
        loop: See above.
        lingering: Connections that were answered, and whose clients still send: see `transport.lingering`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.lingering: set[Any] = set()
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[int, int], None]] = {}
        FORKS.numbers.add(self._epoll.fileno())
        loop.add_reader(self._epoll.fileno(), self._poll)

    def watch(self, number: int, events: int, call: Callable[[int, int], None]) -> None:
        """Call a function whenever one of the events happens, with the descriptor and the events that happened.

        Args:
            number: The descriptor. Lent, until `unwatch`.
            events: EPOLLIN, EPOLLOUT; the kernel adds EPOLLERR and EPOLLHUP.
            call: The function. It may be called when the event is over already. It must not raise.
        """
        if number in self._calls:
            self._epoll.modify(number, events)
        else:
            self._epoll.register(number, events)
        self._calls[number] = call

    def unwatch(self, number: int) -> None:
        """Stop watching. Must come before the close: while another process has a duplicate, epoll would go on."""
        self._epoll.unregister(number)
        del self._calls[number]

    def _poll(self) -> None:
        calls = self._calls
        for number, events in self._epoll.poll(0, _EVENTS_MAX):
            call = calls.get(number)
            if call is not None:  # else an earlier call of this round has unwatched it
                call(number, events)

    def close(self) -> None:
        """Stop watching all descriptors."""
        self.loop.remove_reader(self._epoll.fileno())
        FORKS.numbers.discard(self._epoll.fileno())
        self._epoll.close()
        self._calls.clear()
