"""`Reader`: reads a connection in custody into a shared buffer, and stores in the slot where the bytes are."""

from __future__ import annotations

import socket

from fdpass.serve.shared.slots import BASE, BUFFER, BUFFER_SIZE, FLAGS, ORIGIN, READ, SLOT_SIZE, Flag
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.passed_socket import PassedSocket

_DONTWAIT = int(socket.MSG_DONTWAIT)
_OVERFLOW, _READING = int(Flag.OVERFLOW), int(Flag.READING)


def nowhere() -> memoryview:
    """A slot of no connection."""
    return memoryview(bytearray(SLOT_SIZE)).cast("q")


NOWHERE = nowhere()
"""The slot of each connection that has gone: nobody reads what is still stored for it."""


class Reader:
    """The reading side of one connection.

    Args:
        words: Its slot.
        buffers: Of this worker.
        scratch: Memory to read into when no buffer is free.
        marks: The kernel keeps no counters of the connection: see READING in `slots`.

    Attributes:
        read: The position up to which the kernel has been read.
    """

    __slots__ = ("_buffers", "_marks", "_number", "_offset", "_origin", "_scratch", "_words", "read")

    def __init__(self, words: memoryview, buffers: Buffers, scratch: memoryview, marks: bool) -> None:
        self.read = words[BASE]
        self._words = words
        self._buffers = buffers
        self._scratch = scratch
        self._marks = marks
        self._number = 0  # of the connection's buffer; 0: it has none
        self._origin = 0  # the position of the buffer's first byte in the stream
        self._offset = 0  # the place of that byte in the memory

    def place(self, sizehint: int = -1) -> memoryview:  # noqa: ARG002 - a buffer is as large as it is
        """The memory for the bytes that come next: `asyncio.BufferedProtocol.get_buffer`."""
        words = self._words
        if self._marks:
            words[FLAGS] |= _READING
        if not self._number:
            return self._buffers.views[self._number] if self.begin() else self._scratch
        start = self.read - self._origin
        if start >= BUFFER_SIZE:
            words[ORIGIN] = self._origin = self.read
            self._buffers.clear(self._number, BUFFER_SIZE)
            start = 0
        view = self._buffers.views[self._number]
        return view[start:] if start else view

    def begin(self, data: bytes = b"") -> bool:
        """Take a buffer, and put these bytes at its start; False if none is free, or the bytes are too many."""
        words, buffers = self._words, self._buffers
        origin = self._origin = self.read
        if len(data) > BUFFER_SIZE or not (buffers.free or buffers.more()):
            words[FLAGS] |= _OVERFLOW
            return False
        number = buffers.free.pop()
        self._offset = offset = (number - 1) * BUFFER_SIZE
        if data:
            buffers.memory[offset : offset + len(data)] = data
        words[ORIGIN] = origin
        words[BUFFER] = self._number = number
        return True

    def receive(self, passed: PassedSocket) -> bytes:
        """Read the bytes that have come, by `place`, recv(2) and `came`; b"" at the end of the stream.

        Raises:
            OSError: As of recv(2); BlockingIOError if nothing is there.
        """
        buffers, words, read = self._buffers, self._words, self.read
        if not (self._number or self._marks) and buffers.free:  # the usual case of the rest, for less
            self._number = number = buffers.free.pop()
            self._offset = offset = (number - 1) * BUFFER_SIZE
            words[ORIGIN] = self._origin = read
            words[BUFFER] = number
            count = passed.recv_into(buffers.views[number], 0, _DONTWAIT)
            words[READ] = self.read = read + count
            return buffers.memory[offset : offset + count]
        count = 0
        try:
            count = passed.recv_into(self.place(), 0, _DONTWAIT)
        finally:
            data = self.came(count)
        return data

    def came(self, nbytes: int) -> bytes:
        """Account for ``nbytes`` that the kernel put at `place`, and return them."""
        if self._number:
            start = self._offset + self.read - self._origin
            data = self._buffers.memory[start : start + nbytes]
        else:
            data = bytes(self._scratch[:nbytes])
        self.read += nbytes
        self._words[READ] = self.read
        if self._marks:
            self._words[FLAGS] &= ~_READING
        return data

    def since(self, position: int) -> bytes:
        """The bytes from ``position`` on that were read and are in the buffer; b"" if some are in no buffer."""
        if not self._number or position < self._origin:
            return b""
        start = self._offset + position - self._origin
        return self._buffers.memory[start : self._offset + self.read - self._origin]

    @property
    def used(self) -> int:
        """How many bytes of the buffer were written since it was taken."""
        return self.read - self._origin

    def has(self, position: int) -> bool:
        """Whether the buffer has all that was read from a position on; True if that is nothing."""
        return position == self.read or (self._number > 0 and position >= self._origin)

    def exchange(self, data: bytes) -> None:
        """Take another buffer for these bytes, the last ones that came, and give the present one back."""
        words = self._words
        words[FLAGS] |= _OVERFLOW  # until another buffer has the bytes
        self.release()
        read, self.read = self.read, self.read - len(data)
        if self.begin(data):
            words[FLAGS] &= ~_OVERFLOW
        self.read = read

    def release(self) -> None:
        """Give the buffer back: no byte of a request is needed any more."""
        number = self._number
        if number:
            self._words[BUFFER] = self._number = 0
            self._buffers.give_back(number, self.read - self._origin)

    def forget(self) -> None:
        """Give the buffer back, and leave the slot as it is: another connection or worker will have it."""
        self._words = NOWHERE
        self.release()
