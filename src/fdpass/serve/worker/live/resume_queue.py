"""`ResumeQueue`: a thousand streams that come at once call the application only some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fdpass.serve.worker.idle_timer import IdleTimer

MOST = 32
"""How many applications that have not accepted yet are waited for; each looks into a database, say."""

SECONDS = 1.0
"""How long one of them is waited for."""


class ResumeQueue:
    """Streams whose application is called anew, in their order.

    Args:
        loop: The running loop.
        begin: Called with a stream when its turn has come.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: Callable[[Any], None]) -> None:
        self._loop = loop
        self._begin = begin
        self._waiting: dict[Any, None] = {}  # in their order
        self._begun: set[Any] = set()
        self._timer = IdleTimer(loop, SECONDS, self.discard)
        self._is_due = False

    def add(self, stream: Any) -> None:
        """Let a stream wait for its turn."""
        self._waiting[stream] = None
        self._go_on_soon()

    def discard(self, stream: Any) -> None:
        """The application has accepted a stream, or took too long, or the stream has ended."""
        self._waiting.pop(stream, None)
        if stream in self._begun:
            self._begun.discard(stream)
            self._timer.discard(stream)
            self._go_on_soon()

    def take_all(self) -> list[Any]:
        """Take those out that wait for their turn."""
        found, self._waiting = list(self._waiting), {}
        return found

    def _go_on_soon(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_due = False
        while self._waiting and len(self._begun) < MOST:
            stream = next(iter(self._waiting))
            del self._waiting[stream]
            self._begun.add(stream)
            self._timer.add(stream)
            self._begin(stream)
