"""WebSocket frames for the custody tests (RFC 6455, 5.2): what a client sends, and what a server has sent."""

from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"\x0b\x16\x21\x2c"


def client_frame(opcode, payload=b"", *, fin=True, key=KEY, reserved=0):
    """A frame as clients send it, masked."""
    size = len(payload)
    head = bytes([fin << 7 | reserved << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    mask = (key * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return head + key + masked.to_bytes(size, "big")


@dataclass(frozen=True)
class Frame:
    """A frame of a server.

    Attributes:
        first: Its first byte: FIN, the reserved bits and the opcode.
        payload: What it carries.
        end: Where it ends in the bytes that were parsed.
    """

    first: int
    payload: bytes
    end: int

    @property
    def opcode(self):
        return self.first & 0x0F

    @property
    def code(self):
        """Of a close frame."""
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005


def server_frames(data):
    """All whole frames, and how many bytes of one more there are."""
    found, place = [], 0
    while len(data) - place >= 2:
        size, start = data[place + 1], place + 2
        assert size < 128, "a server masks nothing"
        if size >= 126:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
        if start + size > len(data):
            break
        found.append(Frame(data[place], data[start : start + size], start + size))
        place = start + size
    return found, len(data) - place
