"""Where the bytes of a connection in custody are put: in shared memory, and its slot says where."""

from __future__ import annotations

from fdpass.serve.buffers import Buffers
from fdpass.serve.slots import BASE, BUFFER, BUFFER_SIZE, FLAGS, ORIGIN, READ, SLOT_SIZE, Flag

_OVERFLOW, _READING = int(Flag.OVERFLOW), int(Flag.READING)


def nowhere() -> memoryview:
    """A slot of no connection."""
    return memoryview(bytearray(SLOT_SIZE)).cast("q")


NOWHERE = nowhere()
"""For all connections that are lost: what is still written for them stands where nobody reads it."""


class Intake:
    """The reading side of one connection.

    Args:
        words: Its slot.
        buffers: Of this worker.
        scratch: Where to read when no buffer is free.
        marks: The kernel keeps no counters of it: see READ in `slots`.

    Attributes:
        read: The position up to which the kernel has been read.
        ready: A whole buffer, if nothing has been put into it yet and the slot names it: the usual case, in which
            `place` has nothing to do, and who took the bytes out of it by hand adds to ``read`` and sets None.
    """

    __slots__ = (
        "_buffers",
        "_marks",
        "_number",
        "_origin",
        "_scratch",
        "_touched",
        "_view",
        "_words",
        "read",
        "ready",
    )

    def __init__(self, words: memoryview, buffers: Buffers, scratch: memoryview, *, marks: bool) -> None:
        self.read = words[BASE]
        self._words = words
        self._buffers = buffers
        self._scratch = scratch
        self._marks = marks
        self._number = 0
        self._view: memoryview | None = None
        self._origin = self._touched = 0
        self.ready: memoryview | None = None

    def place(self, sizehint: int) -> memoryview:  # noqa: ARG002 - a buffer is as large as it is
        """Where the kernel shall put what comes: `asyncio.BufferedProtocol.get_buffer`."""
        if self.ready is not None:
            return self.ready
        words = self._words
        if self._marks:
            words[FLAGS] |= _READING
        if self._view is None and not self.begin(b""):
            return self._scratch
        start = self.read - self._origin
        if start >= BUFFER_SIZE:
            words[FLAGS] |= _OVERFLOW
            start, self._origin = 0, self.read  # ORIGIN stands: with OVERFLOW nobody asks
            self._touched = BUFFER_SIZE
        view = self._view
        assert view is not None
        return view[start:] if start else view

    def begin(self, data: bytes) -> bool:
        """Have a buffer that begins with these bytes, if one is free."""
        words = self._words
        number = self._buffers.take()
        self._origin = self.read
        self._touched = 0
        if not number:
            words[FLAGS] |= _OVERFLOW
            return False
        self._view = self._buffers.view(number)
        if data:
            self._view[: len(data)] = data
        words[ORIGIN] = self.read
        words[BUFFER] = self._number = number
        if not (data or self._marks):
            self.ready = self._view
        return True

    def came(self, nbytes: int) -> bytes:
        """So much has come: the bytes."""
        if self._view is None:
            data = bytes(self._scratch[:nbytes])
        else:
            start = self.read - self._origin
            data = bytes(self._view[start : start + nbytes])
        self.read += nbytes
        self.ready = None
        if self._marks:
            self._words[READ] = self.read
            self._words[FLAGS] &= ~_READING
        return data

    @property
    def used(self) -> int:
        """Bytes of the buffer that were ever read into."""
        return self.read - self._origin

    def exchange(self, data: bytes) -> None:
        """Have another buffer that begins with these bytes, the last that came."""
        words = self._words
        words[FLAGS] |= _OVERFLOW  # until the two words that tell of it agree
        if self._view is not None:
            self._buffers.give_back(self._number, BUFFER_SIZE)
            self._view = None
        read, self.read = self.read, self.read - len(data)
        if self.begin(data):
            words[FLAGS] &= ~_OVERFLOW
        self.read = read

    def refer(self) -> None:
        """After an overflow: what of the next request has come is where it is now."""
        if self._view is not None:
            self._words[ORIGIN] = self._origin

    def release(self) -> None:
        """Nothing of a request is there any more."""
        if self._view is not None:
            self._words[BUFFER] = 0
            self._buffers.give_back(self._number, min(max(self._touched, self.read - self._origin), BUFFER_SIZE))
            self._view = self.ready = None

    def forget(self) -> None:
        """The slot is another connection's from now on."""
        self.release()
        self._words = NOWHERE
