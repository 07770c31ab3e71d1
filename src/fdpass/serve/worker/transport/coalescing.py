"""`Coalescing`: a transport that sends in one write what belongs together, and counts it for the slot."""

from __future__ import annotations

from typing import Any

from fdpass.serve.shared.slots import CONTINUE, FLAGS, POSITION, WRITTEN, WROTE, Flag
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.transport.base import Transport

_WRITING, _INTERIM = int(Flag.WRITING), int(Flag.INTERIM)


class Coalescing(Transport):
    """See `Transport`. Who derives from it says when something is held, and when the end of it has come.

    Args:
        poller: Where it is watched.
        passed: The connection. Given.
        words: Its slot.

    Attributes:
        words: See above.
    """

    __slots__ = ("_holding", "_last", "_marks", "_out", "words")

    def __init__(self, poller: Poller, passed: PassedSocket, words: memoryview) -> None:
        super().__init__(poller, passed)
        self.words = words
        self._wrote = words[WRITTEN] & POSITION
        self._marks = passed.is_unix  # of which the kernel keeps no counters
        self._holding = False  # what is written waits for more that shall go out with it
        self._out: list[bytes] = []  # this
        self._last = False  # it shall end when all is sent

    def write(self, data: Any) -> None:
        """See `asyncio.WriteTransport`."""
        if data == CONTINUE:
            self.words[FLAGS] |= _INTERIM
        if self._holding:
            self._out.append(data)
        elif self._out:
            self._out.append(data)
            self._put(self._gathered())
        else:
            self._put(data)

    def flush(self) -> None:
        """What waits for more has waited enough."""
        if self._out:
            self._put(self._gathered())
        if self._last:
            self._close()

    def _gathered(self) -> bytes:
        """What waits, taken out: nothing is held any more."""
        data = b"".join(self._out)
        self._out.clear()
        self._holding = False
        return data

    def _put(self, data: Any) -> None:
        if not self._marks:
            Transport.write(self, data)
            return
        self.words[FLAGS] |= _WRITING
        Transport.write(self, data)
        if not self._backlog:
            self._mark()

    def _mark(self) -> None:
        self.words[WROTE] = self._wrote
        self.words[FLAGS] &= ~_WRITING

    def _drained(self) -> None:
        super()._drained()
        if self._marks:
            self._mark()

    def close(self) -> None:
        """See `asyncio.BaseTransport`: end it, once everything is sent."""
        self._last = True
        if not self._holding:
            self.flush()

    def _close(self) -> None:
        super().close()

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._last or self._closing
