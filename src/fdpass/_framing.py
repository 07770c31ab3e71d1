"""Messages on a byte stream or in packets, sans-IO: no socket, no clock, and descriptors are mere numbers.

A message is one or more *frames*. A frame is a header of 16 bytes, little-endian, and a payload::

    magic "fd" | version u8 | kind u8 | flags u16 | count u16 | length u32 | number u32

``length`` bytes of payload and ``count`` descriptors belong to it; the descriptors travel with its first
byte. On a packet socket each packet is one frame. On a stream, the kernel merges, cuts and re-associates
(kernel facts in docs/how-it-works.md), so what arrives there is two queues, one of bytes and one of
descriptors, that the headers alone bring together again: never the position at which something arrived.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

from fdpass._errors import ProtocolError

HEADER = struct.Struct("<2sBBHHII")
SIZE = struct.Struct("<Q")  # the payload of a MEMFD frame: how many bytes the memfd holds
MAGIC, VERSION = b"fd", 1
FRAME_MAX = 65536
"""The longest payload of a frame, in bytes. Longer messages take several frames, or a memfd."""
FDS_MAX = 253


class Kind(IntEnum):
    MESSAGE = 0
    ACK = 1  # I have message `number` with all its descriptors
    REFUSE = 2  # I will never take message `number`
    RETRY = 3  # I had no room for message `number`: send it again
    GONE = 4  # there is no message `number` to send again


class Flag(IntFlag):
    MORE = 1  # the message goes on in the next frame of kind MESSAGE
    MEMFD = 2  # in a message's first frame: its bytes are in its first descriptor, a sealed memfd
    ABORT = 4  # the message that was begun will not come to its end
    ACKNOWLEDGED = 8  # the sender waits for ACK


_MORE, _MEMFD, _ABORT = int(Flag.MORE), int(Flag.MEMFD), int(Flag.ABORT)
_KINDS, _FLAGS = len(Kind), sum(Flag)


class Frame(NamedTuple):
    kind: int
    flags: int
    number: int
    payload: bytes
    fds: list[int]
    lost: int  # how many of its descriptors the kernel dropped on the way


class Arrived(NamedTuple):
    """A whole message; with ``refused``, one beyond the bounds, without its data and descriptors."""

    number: int
    data: bytes
    fds: list[int]
    memfd: int | None  # how many bytes the first of ``fds`` holds, in place of ``data``
    lost: int
    refused: str | None


def header(kind: int, flags: int, count: int, length: int, number: int) -> bytes:
    return HEADER.pack(MAGIC, VERSION, kind, flags, count, length, number)


_PLAIN = struct.Struct("<6sHI")
_PLAIN_START = HEADER.pack(MAGIC, VERSION, 0, 0, 0, 0, 0)[:6]


def plain(data: bytes, count: int) -> bool:
    """Whether ``data`` and ``count`` descriptors are exactly one frame that is a whole message: the usual case."""
    length = len(data) - HEADER.size
    return length >= 0 and _PLAIN.unpack_from(data) == (_PLAIN_START, count, length)


class Piece(NamedTuple):
    """What one frame of an outgoing message carries: slices of its data and of its descriptors."""

    flags: int
    start: int
    stop: int
    first_fd: int
    last_fd: int


def cut(length: int, count: int, flags: int, first: int = 0) -> list[Piece]:
    """How a message of ``length`` bytes and ``count`` descriptors is divided into frames.

    Each has ``flags``, all but the last MORE, and the first one ``first``.
    """
    pieces = max(-(-length // FRAME_MAX), -(-count // FDS_MAX), 1)
    return [
        Piece(
            flags | (_MORE if i < pieces - 1 else 0) | (first if i == 0 else 0),
            min(i * FRAME_MAX, length),
            min((i + 1) * FRAME_MAX, length),
            min(i * FDS_MAX, count),
            min((i + 1) * FDS_MAX, count),
        )
        for i in range(pieces)
    ]


class Parser:
    """Bytes and descriptors in, frames out.

    Args:
        packets: True if each `feed` is one packet, false for a stream.
    """

    def __init__(self, *, packets: bool) -> None:
        self._packets = packets
        self._bytes = bytearray()
        self._fds: deque[int | None] = deque()  # None: here the kernel dropped an unknown number

    @property
    def idle(self) -> bool:
        """True between frames."""
        return not self._bytes and not self._fds

    def feed(self, data: bytes, fds: Iterable[int], *, dropped: bool = False) -> Iterator[Frame]:
        """Take what one recvmsg gave; ``dropped`` if it said MSG_CTRUNC. Iterate to the end.

        Raises:
            ProtocolError: This is no fdpass channel, or a broken one. `held` has what must be closed.
        """
        self._bytes += data
        self._fds.extend(fds)
        if dropped:
            self._fds.append(None)
        while len(self._bytes) >= HEADER.size:
            fields = HEADER.unpack_from(self._bytes)
            _check(fields)
            _, _, kind, flags, count, length, number = fields
            if len(self._bytes) < HEADER.size + length:
                break
            payload = bytes(memoryview(self._bytes)[HEADER.size : HEADER.size + length])
            del self._bytes[: HEADER.size + length]
            own, lost = self._claim(count)
            yield Frame(kind, flags, number, payload, own, lost)
        self._check_rest()

    def held(self) -> list[int]:
        """Hand out every descriptor that waits here for its frame, for closing."""
        found = [fd for fd in self._fds if fd is not None]
        self._fds.clear()
        self._bytes.clear()
        return found

    def _claim(self, count: int) -> tuple[list[int], int]:
        own: list[int] = []
        while len(own) < count:
            if not self._fds:
                self._fds.extend(own)  # so that held() hands them out
                raise ProtocolError(f"a frame announced {count} descriptors and came with {len(own)}")
            fd = self._fds.popleft()
            if fd is None:
                return own, count - len(own)
            own.append(fd)
        return own, 0

    def _check_rest(self) -> None:
        if self._packets and (self._bytes or self._fds):
            raise ProtocolError("a packet is not exactly one frame")
        # Whoever forwards a stream may move them ahead: those of the frame that has begun, and of the next.
        if len(self._fds) > 2 * FDS_MAX:
            raise ProtocolError("more descriptors came than frames account for")


def _check(fields: tuple[Any, ...]) -> None:
    magic, version, kind, flags, count, length, _ = fields
    if magic != MAGIC:
        raise ProtocolError("the peer does not speak the channel's protocol: use send_fds and recv_fds with it")
    if version != VERSION:
        raise ProtocolError(f"the peer speaks version {version} of the channel's protocol, and this is {VERSION}")
    if kind >= _KINDS or flags & ~_FLAGS or length > FRAME_MAX or count > FDS_MAX:
        raise ProtocolError("a frame's header is not valid")
    if kind != Kind.MESSAGE and (length or count or flags):
        raise ProtocolError("a control frame carries data or descriptors")
    if flags & _MEMFD and (length != SIZE.size or not count):
        raise ProtocolError("a memfd frame is not valid")


class Assembler:
    """Frames of kind MESSAGE in, whole messages out, within bounds.

    Args:
        max_message: The most bytes of a message.
        max_fds: The most descriptors of a message (a memfd with the bytes is not counted).

    Attributes:
        unwanted: Descriptors that nobody will get: close them after each `add`.
    """

    def __init__(self, max_message: int, max_fds: int) -> None:
        self._max_message = max_message
        self._max_fds = max_fds
        self.unwanted: list[int] = []
        self._begun: int | None = None
        self._data = bytearray()
        self._fds: list[int] = []
        self._memfd: int | None = None
        self._count = 0
        self._lost = 0
        self._refused: str | None = None

    @property
    def idle(self) -> bool:
        """True between messages."""
        return self._begun is None

    def add(self, frame: Frame) -> Arrived | None:
        """Take a frame; give the message that it completes, if it does.

        Raises:
            ProtocolError: It does not continue the message that was begun.
        """
        self._fds += frame.fds
        if self._begun is not None and (frame.number != self._begun or frame.flags & _MEMFD):
            raise ProtocolError("a message began within another")
        if self._memfd is not None and frame.payload:
            raise ProtocolError("a message has bytes both in a memfd and beside it")
        if frame.flags & _ABORT:
            self._reset()
            return None
        self._begun = frame.number
        self._lost += frame.lost
        self._count += len(frame.fds) + frame.lost
        if frame.flags & _MEMFD:
            self._memfd = SIZE.unpack(frame.payload)[0]
            self._count -= 1
        else:
            self._data += frame.payload
        self._check_bounds()
        if frame.flags & _MORE:
            return None
        memfd = self._memfd if self._fds else None
        done = Arrived(frame.number, bytes(self._data), self._fds, memfd, self._lost, self._refused)
        self._fds = []
        self._reset()
        return done

    def held(self) -> list[int]:
        """Hand out every descriptor that waits here for the rest of its message, for closing."""
        self._reset()
        found, self.unwanted = self.unwanted, []
        return found

    def _check_bounds(self) -> None:
        length = len(self._data) if self._memfd is None else self._memfd
        if length > self._max_message:
            self._refused = f"a message of at least {length} bytes came, where max_message is {self._max_message}"
        elif self._count > self._max_fds:
            self._refused = f"at least {self._count} descriptors came, where max_fds is {self._max_fds}"
        if self._refused:
            self._drop()

    def _drop(self) -> None:
        self.unwanted += self._fds
        self._fds = []
        self._data.clear()

    def _reset(self) -> None:
        self._drop()
        self._begun, self._memfd, self._refused = None, None, None
        self._count = self._lost = 0
