"""What a channel sends: messages cut into frames, and the frames that wait for the socket to take them."""

from __future__ import annotations

import array
import errno
import socket
import threading
from collections import deque
from collections.abc import Sequence
from pickle import PickleBuffer
from typing import Any, NamedTuple

from fdpass import _framing
from fdpass._ancillary import send_parts
from fdpass._fd import Fd
from fdpass._framing import FRAME_MAX, Flag, Piece
from fdpass._lending import numbers
from fdpass._memory import share

_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_ROOM = {errno.EAGAIN}  # poll(2) tells when
_LATER = {errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS}  # nothing tells when
_NONE = array.array("i")


class Part(NamedTuple):
    """A frame to be sent, or the rest of one."""

    buffers: tuple[Any, ...]
    rights: array.array[int]
    number: int  # of its message; -1 for a control frame
    begun: bool = False  # its first byte is gone, and its descriptors with it


class Outgoing:
    """A message on its way out: its frames, and the memfd with its bytes, if it needs one."""

    __slots__ = ("memfd", "number", "parts")

    def __init__(self, number: int, parts: Sequence[Part], memfd: Fd | None = None) -> None:
        self.number = number
        self.parts = parts
        self.memfd = memfd

    def close(self) -> None:
        """Close the memfd. The descriptors of the message are the sender's."""
        if self.memfd is not None:
            self.memfd.close()


class Outbox:
    """Frames that wait, in order.

    Args:
        sock: Where they go.
        flags: The flags of every message of this channel.
    """

    def __init__(self, sock: socket.socket, flags: int) -> None:
        self._sock = sock
        self._stream = sock.type == socket.SOCK_STREAM
        self._flags = flags
        # A packet's limit is SO_SNDBUF less 32 (net/unix/af_unix.c); a stream has none.
        room = FRAME_MAX if self._stream else sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32
        self._inline = max(0, min(FRAME_MAX, room - _framing.HEADER.size))
        self._waiting: deque[Part] = deque()
        self._pushing = threading.Lock()
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def prepare(self, data: Any, items: Sequence[Any]) -> Outgoing:
        """Cut a message into frames. Raises (InvalidMessage, NotADescriptor, Closed) before anything is sent."""
        rights = numbers(items) if items else _NONE
        if type(data) is not bytes:
            data = PickleBuffer(data).raw()  # memoryview.cast() refuses foreign byte orders and structures
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        if len(data) <= self._inline and len(rights) <= _framing.FDS_MAX:
            head = _framing.header(0, self._flags, len(rights), len(data), number)
            return Outgoing(number, (Part((head, data), rights, number),))
        if len(data) <= self._inline or self._stream:
            return Outgoing(number, self._frames(number, data, rights))
        memfd = share(data, name="fdpass-message")
        rights = array.array("i", [memfd.fileno(), *rights])
        size = _framing.SIZE.pack(len(data))
        return Outgoing(number, self._frames(number, size, rights, Flag.MEMFD), memfd)

    def send_now(self, data: Any, items: Sequence[Any]) -> bool:
        """Send a message at once, if it is one frame and nothing is in its way: the usual case, with less ado.

        On a stream the end of it may be left, waiting for `push`. False leaves nothing behind, and the long
        way tells what is wrong. Not in acknowledged mode.
        """
        if self._flags or self._waiting or type(data) is not bytes or len(data) > self._inline:
            return False
        rights = numbers(items) if items else _NONE
        if len(rights) > _framing.FDS_MAX:
            return False
        head = _framing.header(0, 0, len(rights), len(data), 0)
        try:
            sent = send_parts(self._sock, (head, data), rights, _FLAGS)
        except OSError:
            return False
        if sent < len(head) + len(data):
            self._waiting.append(_rest(Part((head, data), rights, 0), sent))
        return True

    def _frames(self, number: int, data: Any, rights: array.array[int], first: int = 0) -> list[Part]:
        data = memoryview(data)

        def part(piece: Piece) -> Part:
            payload, own = data[piece.start : piece.stop], rights[piece.first_fd : piece.last_fd]
            return Part((_framing.header(0, piece.flags, len(own), len(payload), number), payload), own, number)

        return [part(piece) for piece in _framing.cut(len(data), len(rights), self._flags, first)]

    def queue(self, message: Outgoing) -> None:
        """Put a message behind what waits."""
        self._waiting.extend(message.parts)

    def control(self, kind: int, number: int) -> None:
        """Owe the peer a control frame; the next `push` sends it."""
        self._waiting.append(Part((_framing.header(kind, 0, 0, 0, number),), _NONE, -1))

    @property
    def owed(self) -> int:
        """How many control frames wait."""
        return sum(part.number == -1 for part in self._waiting)

    def push(self) -> str:
        """Send what waits: "sent" if nothing is left, else what to wait for: "room" (POLLOUT), or "later".

        Raises:
            OSError: The frame in front cannot be sent.
        """
        with self._pushing:
            while self._waiting:
                part = self._waiting[0]
                try:
                    sent = send_parts(self._sock, part.buffers, part.rights, _FLAGS)
                except InterruptedError:
                    continue
                except OSError as error:
                    if error.errno in _ROOM:
                        return "room"
                    if error.errno in _LATER:
                        return "later"
                    raise
                if self._stream and sent < sum(map(len, part.buffers)):
                    self._waiting[0] = _rest(part, sent)
                else:
                    self._waiting.popleft()
            return "sent"

    def abandon(self, message: Outgoing) -> None:
        """The sender gave up: nothing more of the message begins, and the peer is told if something had.

        Only a last frame that is partly out stands: the rest of it goes ahead of whatever comes next, since
        nothing after half a frame can be understood.
        """
        with self._pushing:
            mine = [part for part in self._waiting if part.number == message.number and not part.begun]
            if not mine:
                return
            self._waiting = deque(part for part in self._waiting if part.number != message.number or part.begun)
            if len(mine) < len(message.parts):
                off = _framing.header(0, self._flags | Flag.ABORT, 0, 0, message.number)
                self._waiting.append(Part((off,), _NONE, -1))


def _rest(part: Part, sent: int) -> Part:
    # A large send carries its descriptors on the first part only: sent again, they would arrive twice.
    left = []
    for buffer in part.buffers:
        if sent < len(buffer):
            left.append(memoryview(buffer)[sent:])
        sent = max(0, sent - len(buffer))
    return Part(tuple(left), _NONE, part.number, begun=True)
