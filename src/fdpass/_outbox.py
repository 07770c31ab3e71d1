"""`Outbox`: splits a channel's messages into frames, and keeps the frames until the socket takes them."""

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
from fdpass._errors import Closed
from fdpass._fd import Fd
from fdpass._framing import FRAME_MAX, HEADER, MAGIC, VERSION, Flag, Piece
from fdpass._lending import not_open, numbers
from fdpass._memory import share

_FLAGS = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_NO_ROOM = {errno.EAGAIN}  # poll(2) tells when there is room
_TRY_LATER = {errno.ENOMEM, errno.ENOBUFS, errno.ETOOMANYREFS}  # no event tells when to try again
_NO_RIGHTS = array.array("i")
_pack_head = HEADER.pack


class Part(NamedTuple):
    """A frame to be sent, or the rest of one."""

    buffers: tuple[Any, ...]
    rights: array.array[int]
    number: int  # of its message; -1 for a control frame
    begun: bool = False  # its first byte was sent, and its descriptors with it


_TORN = Part((), _NO_RIGHTS, -1, begun=True)  # in place of the rest of a frame that the parent sends


class Outgoing:
    """A message to be sent: its frames, its descriptors, and the memfd with its bytes, if it needs one."""

    __slots__ = ("_items", "_rights", "memfd", "number", "parts")

    def __init__(
        self,
        number: int,
        parts: Sequence[Part],
        items: Sequence[Any],
        rights: array.array[int],
        memfd: Fd | None = None,
    ) -> None:
        self.number = number
        self.parts = parts
        self.memfd = memfd
        self._items = tuple(items)
        self._rights = rights

    def check(self) -> None:
        """Check after a wait that the descriptors are still the ones of the call.

        Raises:
            Closed: The owner of one has closed it: its number can be another file's by now. Of a number that came
                without its owner this cannot be told.
        """
        if self._items and numbers(self._items) != self._rights:
            raise Closed("a descriptor was closed while send waited: keep descriptors open until it returns")

    def close(self) -> None:
        """Close the memfd. The sender owns the descriptors of the message."""
        if self.memfd is not None:
            self.memfd.close()


class Outbox:
    """Frames to be sent, in order. Threads may share it, if only one at a time calls `prepare` and `send_now`.

    Args:
        sock: The channel's socket, lent.
        flags: The flags of every message of this channel.

    Attributes:
        waiting: The frames. ``bool(outbox)`` costs a call of Python's, and this attribute none.
    """

    def __init__(self, sock: socket.socket, flags: int) -> None:
        self._sock = sock
        self._stream = sock.type == socket.SOCK_STREAM
        self._flags = flags
        # A packet's limit is SO_SNDBUF less 32 (net/unix/af_unix.c); a stream has none.
        room = FRAME_MAX if self._stream else sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32
        self._payload_max = max(0, min(FRAME_MAX, room - _framing.HEADER.size))
        self.waiting: deque[Part] = deque()
        self._lock = threading.Lock()  # of `_waiting`: a receiving thread adds control frames while another sends
        self._number = 0
        # Length, count of descriptors and header of the newest frame of `send_now`. One tuple, so that an
        # exception of a signal handler never leaves parts of two frames.
        self._newest = (-1, 0, b"")

    def __bool__(self) -> bool:
        return bool(self.waiting)

    def prepare(self, data: Any, items: Sequence[Any]) -> Outgoing:
        """Split a message into frames, and number it.

        Raises:
            NotADescriptor: An item is no descriptor.
            Closed: An item is closed.
            CallFailed: The memfd for a large message could not be made.
        """
        rights = numbers(items) if items else _NO_RIGHTS
        if type(data) is not bytes:
            data = PickleBuffer(data).raw()  # memoryview.cast() refuses foreign byte orders and structures
        self._number = number = (self._number + 1) & 0xFFFFFFFF
        if len(data) <= self._payload_max and len(rights) <= _framing.FDS_MAX:
            head = _framing.header(0, self._flags, len(rights), len(data), number)
            return Outgoing(number, (Part((head, data), rights, number),), items, rights)
        if len(data) <= self._payload_max or self._stream:
            return Outgoing(number, self._frames(number, data, rights), items, rights)
        memfd = share(data, name="fdpass-message")
        size, with_memfd = _framing.SIZE.pack(len(data)), array.array("i", [memfd.fileno(), *rights])
        return Outgoing(number, self._frames(number, size, with_memfd, Flag.MEMFD), items, rights, memfd)

    def send_now(self, data: Any, items: Sequence[Any]) -> bool:
        """Send a message at once, if it is one frame and no other frame waits: a short path for the usual case.

        Returns:
            True if the socket took the message; on a stream the end of its frame may wait for `push`. False if
            nothing was sent: the caller goes on with `prepare` and `queue`, which raise the error, if any. Always
            False in acknowledged mode.
        """
        if self._flags or self.waiting or type(data) is not bytes:
            return False
        rights = numbers(items) if items else _NO_RIGHTS
        length, count, head = self._newest
        if len(data) != length or len(rights) != count:
            length, count = len(data), len(rights)
            if length > self._payload_max or count > _framing.FDS_MAX:
                return False
            head = _pack_head(MAGIC, VERSION, 0, 0, count, length, 0)
            self._newest = length, count, head
        try:
            sent = send_parts(self._sock, (head, data), rights, _FLAGS)
        except OSError:
            return False
        if self._stream and sent < len(head) + length:
            self.waiting.append(_rest(Part((head, data), rights, 0), sent))
        return True

    def _frames(self, number: int, data: Any, rights: array.array[int], first: int = 0) -> list[Part]:
        data = memoryview(data)

        def part(piece: Piece) -> Part:
            payload, own = data[piece.start : piece.stop], rights[piece.first_fd : piece.last_fd]
            return Part((_framing.header(0, piece.flags, len(own), len(payload), number), payload), own, number)

        return [part(piece) for piece in _framing.split(len(data), len(rights), self._flags, first)]

    def queue(self, message: Outgoing) -> None:
        """Add the frames of a message; the next `push` sends them."""
        with self._lock:
            self.waiting.extend(message.parts)

    def control(self, kind: int, number: int) -> None:
        """Add a control frame; the next `push` sends it."""
        with self._lock:
            self.waiting.append(Part((_framing.header(kind, 0, 0, 0, number),), _NO_RIGHTS, -1))

    @property
    def control_frames(self) -> int:
        """How many control frames wait."""
        with self._lock:
            return sum(part.number == -1 for part in self.waiting)

    def push(self) -> str:
        """Send the frames that wait, until the socket takes no more. Never blocks.

        Returns:
            "sent" if no frame is left; "room" if POLLOUT tells when to go on; "later" if no event tells.

        Raises:
            OSError: The first frame cannot be sent.
        """
        with self._lock:
            while self.waiting:
                part = self.waiting[0]
                if part is _TORN:
                    raise OSError(errno.EBUSY, "this process was forked while its parent was sending a frame")
                try:
                    sent = send_parts(self._sock, part.buffers, part.rights, _FLAGS)
                except InterruptedError:
                    continue
                except OSError as error:
                    if error.errno in _NO_ROOM:
                        return "room"
                    if error.errno in _TRY_LATER:
                        return "later"
                    if error.errno == errno.EBADF:
                        raise OSError(errno.EBADF, not_open(part.rights)) from error
                    raise
                if self._stream and sent < sum(map(len, part.buffers)):
                    self.waiting[0] = _rest(part, sent)
                else:
                    self.waiting.popleft()
            return "sent"

    def after_fork(self) -> None:
        """In a forked child: forget the frames that wait, which the parent sends.

        If a frame was sent in part, the child can send nothing: it would stand before the end of that frame.
        """
        self._lock = threading.Lock()  # a thread of the parent may have held it
        torn = any(part.begun for part in self.waiting)
        self.waiting = deque([_TORN] if torn else [])

    def abandon(self, message: Outgoing) -> None:
        """Remove the frames of a message whose sender gives up; tell the peer if other frames of it were sent.

        The rest of a frame that was sent in part stays: the peer cannot understand what follows half a frame.
        """
        with self._lock:
            unsent = [part for part in self.waiting if part.number == message.number and not part.begun]
            if not unsent:
                return
            self.waiting = deque(part for part in self.waiting if part.number != message.number or part.begun)
            if len(unsent) < len(message.parts):
                abort = _framing.header(0, self._flags | Flag.ABORT, 0, 0, message.number)
                self.waiting.append(Part((abort,), _NO_RIGHTS, -1))


def _rest(part: Part, sent: int) -> Part:
    """The part of a frame that is left after ``sent`` bytes, without the descriptors: they went with the first."""
    left = []
    for buffer in part.buffers:
        if sent < len(buffer):
            left.append(memoryview(buffer)[sent:])
        sent = max(0, sent - len(buffer))
    return Part(tuple(left), _NO_RIGHTS, part.number, begun=True)
