"""The wire format: messages as frames, on a byte stream or in packets. Sans-IO: descriptors are only numbers.

A message is one or more *frames*. A frame is a header of 16 bytes, little-endian, and a payload::

    magic "fd" | version u8 | kind u8 | flags u16 | count u16 | length u32 | number u32

``length`` bytes of payload and ``count`` descriptors belong to the frame; the descriptors travel with its first
byte. On a packet socket each packet is one frame. On a stream the kernel merges and splits what was sent, and
descriptors can arrive with the bytes of another frame (kernel facts in docs/how-it-works.md). So the parser keeps
a queue of bytes and a queue of descriptors, and uses only the headers to assign one to the other.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

from fdpass._errors import ProtocolError

HEADER = struct.Struct("<2sBBHHII")
SIZE = struct.Struct("<Q")  # the payload of a MEMFD frame: how many bytes the memfd has
MAGIC, VERSION = b"fd", 1
FRAME_MAX = 65536
"""The longest payload of a frame, in bytes. Longer messages take several frames, or a memfd."""
FDS_MAX = 253


class Kind(IntEnum):
    MESSAGE = 0
    ACK = 1  # the receiver has message `number` with all its descriptors
    REFUSE = 2  # the receiver's bounds or policy do not admit message `number`
    RETRY = 3  # the receiver had no room for message `number`, and asks for it again
    GONE = 4  # the sender cannot send message `number` again: its `send` has ended


class Flag(IntFlag):
    MORE = 1  # the message continues in the next frame of kind MESSAGE
    MEMFD = 2  # in a message's first frame: its bytes are in its first descriptor, a sealed memfd
    ABORT = 4  # the sender gave up the message that it had begun
    ACKNOWLEDGED = 8  # the sender waits for ACK


_MORE, _MEMFD, _ABORT = int(Flag.MORE), int(Flag.MEMFD), int(Flag.ABORT)
_KINDS, _FLAGS = len(Kind), sum(Flag)


class Frame(NamedTuple):
    kind: int
    flags: int
    number: int
    payload: bytes
    fds: list[int]
    lost: int  # how many of its descriptors the kernel dropped


class Arrived(NamedTuple):
    """A whole message. One that is out of bounds has ``refused``, and neither data nor descriptors."""

    number: int
    data: bytes
    fds: list[int]
    memfd: int | None  # how many bytes the first of ``fds`` has, if the message is in a memfd
    lost: int  # how many of its descriptors the kernel dropped
    refused: str | None  # the bound that the message exceeds


def header(kind: int, flags: int, count: int, length: int, number: int) -> bytes:
    return HEADER.pack(MAGIC, VERSION, kind, flags, count, length, number)


_SINGLE_FRAME = struct.Struct("<6sHI")  # a header up to its length: magic to flags, count, length
_SINGLE_FRAME_START = HEADER.pack(MAGIC, VERSION, 0, 0, 0, 0, 0)[:6]


def is_whole_message(data: bytes, count: int) -> bool:
    """Whether ``data`` and ``count`` descriptors are exactly one frame that is a whole message: the usual case."""
    length = len(data) - HEADER.size
    return length >= 0 and _SINGLE_FRAME.unpack_from(data) == (_SINGLE_FRAME_START, count, length)


class Piece(NamedTuple):
    """The content of one frame of an outgoing message: slices of its data and of its descriptors."""

    flags: int
    start: int
    stop: int
    first_fd: int
    last_fd: int


def split(length: int, count: int, flags: int, first: int = 0) -> list[Piece]:
    """Divide a message of ``length`` bytes and ``count`` descriptors into frames.

    Each frame gets ``flags``, each but the last MORE, and the first one also the flags ``first``.
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
        packets: True if each `feed` is one packet, False for a stream.
    """

    def __init__(self, *, packets: bool) -> None:
        self._packets = packets
        self._bytes = bytearray()
        self._fds: deque[int | None] = deque()  # None: the kernel dropped an unknown number of descriptors here

    @property
    def idle(self) -> bool:
        """True between frames: the parser holds no bytes and no descriptors."""
        return not self._bytes and not self._fds

    def feed(self, data: bytes, fds: Iterable[int], *, dropped: bool = False) -> Iterator[Frame]:
        """Parse the result of one recvmsg. The caller has to iterate to the end.

        Args:
            data: The bytes.
            fds: The descriptors; the parser owns them until it yields them in a frame.
            dropped: Whether recvmsg reported MSG_CTRUNC.

        Raises:
            ProtocolError: The peer does not speak this protocol, or made a mistake. Close what `held` returns.
        """
        self._bytes += data
        self._fds.extend(fds)
        if dropped:
            self._fds.append(None)
        _check_start(self._bytes)
        while len(self._bytes) >= HEADER.size:
            _check_start(self._bytes)
            fields = HEADER.unpack_from(self._bytes)
            _check(fields)
            _, _, kind, flags, count, length, number = fields
            if len(self._bytes) < HEADER.size + length:
                break
            payload = bytes(memoryview(self._bytes)[HEADER.size : HEADER.size + length])
            del self._bytes[: HEADER.size + length]
            own, lost = self._claim(count)
            yield Frame(kind, flags, number, payload, own, lost)
        if not self._packets:
            _check_start(self._bytes)
        self._check_rest()

    def held(self) -> list[int]:
        """Take out every descriptor that waits for its frame; the caller owns them."""
        found = [fd for fd in self._fds if fd is not None]
        self._fds.clear()
        self._bytes.clear()
        return found

    def _claim(self, count: int) -> tuple[list[int], int]:
        own: list[int] = []
        while len(own) < count:
            if not self._fds:
                self._fds.extend(own)  # held() returns them
                raise ProtocolError(f"a frame announced {count} descriptors, but came with {len(own)}")
            fd = self._fds.popleft()
            if fd is None:
                return own, count - len(own)
            own.append(fd)
        return own, 0

    def _check_rest(self) -> None:
        if self._packets and (self._bytes or self._fds):
            raise ProtocolError("a packet is not exactly one frame")
        # A proxy that forwards a stream may deliver descriptors early: those of this frame and of the next one.
        if len(self._fds) > 2 * FDS_MAX:
            raise ProtocolError("more descriptors came than the frames announced")


def _check_start(begun: bytearray) -> None:
    """Check the first bytes of a header: a peer of another protocol may never send the 16 bytes of a whole one."""
    if begun[:2] != MAGIC[: len(begun)]:
        raise ProtocolError("the peer does not speak the channel's protocol: use send_fds and recv_fds with it")
    if len(begun) > 2 and begun[2] != VERSION:
        raise ProtocolError(
            f"the peer speaks version {begun[2]} of the channel's protocol, but this end speaks {VERSION}: "
            "use the same release of fdpass at both ends"
        )


def _check(fields: tuple[Any, ...]) -> None:
    _, _, kind, flags, count, length, _ = fields
    if kind >= _KINDS or flags & ~_FLAGS or length > FRAME_MAX or count > FDS_MAX:
        raise ProtocolError("the peer sent a frame whose header is not valid")
    if kind != Kind.MESSAGE and (length or count or flags):
        raise ProtocolError("the peer sent a control frame with data or descriptors")
    if flags & _MEMFD and (length != SIZE.size or not count):
        raise ProtocolError("the peer sent a memfd frame without a size or a memfd")


class Assembler:
    """Frames of kind MESSAGE in, whole messages out, within bounds.

    Args:
        max_message: The most bytes of a message, 0 or more.
        max_fds: The most descriptors of a message, 0 or more; a memfd with the bytes does not count.

    Attributes:
        unwanted: Descriptors of refused or aborted messages: the caller closes them after each `add`.
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
        """True between messages: no message has begun."""
        return self._begun is None

    def add(self, frame: Frame) -> Arrived | None:
        """Add a frame, whose descriptors the assembler owns from then on; return the message that it completes.

        Raises:
            ProtocolError: The frame does not continue the message that has begun.
        """
        self._fds += frame.fds
        if self._begun is not None and (frame.number != self._begun or frame.flags & _MEMFD):
            raise ProtocolError("the peer began a message within another")
        if self._memfd is not None and frame.payload:
            raise ProtocolError("the peer sent a message with bytes both in a memfd and outside it")
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
        """Take out every descriptor that waits for the rest of its message; the caller owns them."""
        self._reset()
        found, self.unwanted = self.unwanted, []
        return found

    def _check_bounds(self) -> None:
        length = len(self._data) if self._memfd is None else self._memfd
        if length > self._max_message:
            self._refused = f"a message of at least {length} bytes came, but max_message is {self._max_message}"
        elif self._count > self._max_fds:
            self._refused = f"a message of at least {self._count} descriptors came, but max_fds is {self._max_fds}"
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
