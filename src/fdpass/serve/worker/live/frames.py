"""`Frames`: where a client's WebSocket messages end in a stream of bytes (RFC 6455, 5.2). Sans-IO.

uvicorn's class reads what a message says. This file only finds its end, so that BASE and GIVEN can be stored.
"""

from __future__ import annotations

_CLOSE = 8  # the opcode of a close frame; all opcodes from there on are of control frames
_FIN, _OPCODE, _MASKED, _LENGTH = 0x80, 0x0F, 0x80, 0x7F
_WHOLE = frozenset((0x81, 0x82, 0xC1, 0xC2))  # first byte of a message in one frame: text, binary; compressed
_SMALL = 126  # bytes of a payload, from which on its length has two bytes more
_HEADER_MAX = 14


class Frames:
    """The ends of messages.

    Args:
        position: Where the first frame begins.

    Attributes:
        ends: The positions at which messages have ended. The caller takes them out.
        border: The position up to which nothing is left to come: behind a control frame or a whole message. No
            close frame is before it, as its answer ends the connection.
    """

    __slots__ = ("_closed", "_fragmented", "_head", "_last", "_left", "_simple", "border", "ends")

    def __init__(self, position: int) -> None:
        self.ends: list[int] = []
        self.border = position
        self._simple = True  # the next byte begins a frame, which begins a message or is a control frame
        self._head = b""  # what has come of a frame's header
        self._left = 0  # bytes of a frame's payload that are still to come
        self._last = False  # the frame is the last one of its message
        self._fragmented = self._closed = False

    def feed(self, data: bytes, stop: int) -> None:
        """Bytes have come, the last of them before the position ``stop``."""
        size = len(data)
        if self._simple and 6 < size < _SMALL + 6 and data[0] in _WHOLE and data[1] == _MASKED + size - 6:
            self.border = stop
            self.ends.append(stop)
        elif not self._closed:
            self._walk(data, stop - size)
            self._simple = not (self._head or self._left or self._fragmented or self._closed)

    def _walk(self, data: bytes, start: int) -> None:
        used, size = 0, len(data)
        while used < size and not self._closed:
            if not self._left:
                head = self._head + data[used : used + _HEADER_MAX]
                length = _header_length(head)
                if len(head) < length:
                    self._head = head
                    return
                used += length - len(self._head)
                self._head = b""
                self._begin(head)
            taken = min(self._left, size - used)
            self._left -= taken
            used += taken
            if not self._left:
                self._end(start + used)

    def _begin(self, head: bytes) -> None:
        """The header of a frame has come."""
        opcode, length = head[0] & _OPCODE, head[1] & _LENGTH
        if length >= _SMALL:
            length = int.from_bytes(head[2:4] if length == _SMALL else head[2:10], "big")
        self._left = length
        self._closed = opcode == _CLOSE
        self._last = opcode < _CLOSE and head[0] >= _FIN
        self._fragmented |= opcode < _CLOSE

    def _end(self, position: int) -> None:
        """A frame has ended."""
        if self._last:
            self._fragmented = False
            self.ends.append(position)
        if not (self._fragmented or self._closed):
            self.border = position


def _header_length(head: bytes) -> int:
    """How long the header is that begins with these bytes; 2 if that is not known yet."""
    if len(head) < 2:
        return 2
    length = head[1] & _LENGTH
    longer = 0 if length < _SMALL else 2 if length == _SMALL else 8
    return 2 + longer + (4 if head[1] & _MASKED else 0)


def ends_with_close(data: bytes) -> bool:
    """Whether the frames of a server that ``data`` consist of have a close frame among their control frames."""
    start = 0
    while start < len(data) and data[start] & _CLOSE:
        if data[start] & _OPCODE == _CLOSE:
            return True
        start += 2 + data[start + 1]  # a control frame is short, and a server's frames have no mask
    return False
