"""`InCustody`: what transports of connections in custody have in common: the slot, its reader, and Unix marks."""

from __future__ import annotations

from typing import Any

from fdpass.serve.shared.slots import FLAGS, WROTE, Flag
from fdpass.serve.worker.custody.reader import NOWHERE, Reader
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.poller import Poller
from fdpass.serve.worker.transport.base import Transport
from fdpass.serve.worker.transport.http import HttpTransport

_OVERFLOW, _WRITING = int(Flag.OVERFLOW), int(Flag.WRITING)

# See `http_custody`; and super() costs more than what it calls.
_init, _write, _end = HttpTransport.__init__, Transport.write, HttpTransport._over  # noqa: SLF001 - of base classes


class InCustody(HttpTransport):
    """A connection in custody.

    Args:
        poller: Watches the connection.
        passed: Its socket. Given.
        words: Its slot.
        reader: Reads it.
        wrote: How many bytes were written to it, ever.

    Attributes:
        words: See above; a slot of no connection once the connection has ended here.
        passed: See above.
    """

    __slots__ = ("_marks", "_reader", "words")

    def __init__(
        self, poller: Poller, passed: PassedSocket, words: memoryview, reader: Reader, wrote: int
    ) -> None:
        _init(self, poller, passed)
        self.words = words
        self._reader = reader
        self._wrote = wrote
        self._marks = passed.is_unix  # the kernel keeps no counters of the connection

    def _write_marked(self, data: Any, flags: int) -> None:
        """Write, with the marks of a Unix socket."""
        if self._marks:
            self.words[FLAGS] |= _WRITING
        _write(self, data, flags)
        if self._marks and not self._backlog:
            self._mark()

    def _mark(self) -> None:
        """Store that the kernel has all bytes that were written to a Unix socket."""
        self.words[WROTE] = self._wrote
        self.words[FLAGS] &= ~_WRITING

    def _drained(self) -> None:
        super()._drained()
        if self._marks:
            self._mark()

    def _over(self, error: Exception | None) -> None:
        if not (self.passed.returned or self._lingers):
            self.passed.shut_down()
        self._let_go()
        _end(self, error)

    def _let_go(self) -> None:
        """Leave the slot: another connection may have it soon, while the application of this one still runs."""
        if not self.passed.returned:
            self.words[FLAGS] |= _OVERFLOW  # what was read is no request that another worker could answer
            self._reader.release()  # the slot must not name a buffer that another connection gets
            self._reader.forget()
        self.words = NOWHERE
