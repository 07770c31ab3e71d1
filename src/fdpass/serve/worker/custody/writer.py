"""`Writer`: counts what a raw handler writes to a connection in custody."""

from __future__ import annotations

from typing import Any

from fdpass.serve.shared.slots import FLAGS, POSITION, WRITTEN, WROTE, Flag

_WRITING = int(Flag.WRITING)


class Writer:
    """The writing side of one connection.

    Args:
        words: Its slot.
        marks: The kernel keeps no counters of the connection: see WROTE in `slots`.

    Attributes:
        transport: The loop's.
        wrote: The position up to which the transport was given bytes.
    """

    __slots__ = ("_marks", "_words", "transport", "wrote")

    def __init__(self, words: memoryview, *, marks: bool) -> None:
        self.transport: Any = None
        self.wrote = words[WRITTEN] & POSITION
        self._words = words
        self._marks = marks

    def write(self, data: Any) -> None:
        """Write bytes now."""
        if self._marks:
            self._words[FLAGS] |= _WRITING
        self.wrote += len(data)
        self.transport.write(data)
        if self._marks and self.drained:
            self.mark()

    @property
    def drained(self) -> bool:
        """The kernel has all bytes."""
        return not self.transport.get_write_buffer_size()

    def mark(self) -> None:
        """Store that the kernel has all bytes, if it is a Unix socket: the kernel itself does not tell."""
        if self._marks:
            self._words[WROTE] = self.wrote
            self._words[FLAGS] &= ~_WRITING

    def forget(self, words: memoryview) -> None:
        """Leave the slot as it is, for another connection will have it, and store in these words instead."""
        self._words = words
