"""WebSocket cases by RFC 6455 and RFC 7692: what a client sends, and what a server must do; by section.

The application echoes. A case is the bytes that a client sends behind the handshake, and an `Expected`.
"""

import struct
import zlib
from dataclasses import dataclass, field

from .frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, client_frame

PROTOCOL, NOT_UTF8, TOO_BIG = 1002, 1007, 1009
END = client_frame(CLOSE, struct.pack("!H", 1000))


@dataclass(frozen=True)
class Expected:
    """What the server must have sent by its end.

    Attributes:
        messages: The echoes: opcode and payload. If the connection fails, they may be fewer.
        pongs: The payloads, in order; likewise.
        codes: The close frame has one of these codes; 1005: it has none. Empty: none of this is prescribed.
    """

    messages: tuple = ()
    pongs: tuple = ()
    codes: frozenset = frozenset({1000})


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        sent: What the client sends, in these pieces.
        expected: See above; None: it is only compared.
        offer: The client's Sec-WebSocket-Extensions.
        deflated: The client compresses these messages as it was agreed, and sends them before ``sent``.
    """

    sent: tuple = ()
    expected: Expected | None = None
    offer: str = ""
    deflated: tuple = field(default=())


def whole(*frames, messages=(), pongs=(), codes=(1000,), end=END):
    """A case that goes well: the client ends it with a close frame."""
    return Case((*frames, end), Expected(tuple(messages), tuple(pongs), frozenset(codes)))


def fails(*frames, messages=(), pongs=(), codes=(PROTOCOL,)):
    """A case at which the server must fail the connection (7.1.7)."""
    return Case((*frames, END), Expected(tuple(messages), tuple(pongs), frozenset(codes)))


def text(data, **options):
    return client_frame(TEXT, data, **options)


def in_parts(data, size, opcode=TEXT):
    """A fragmented message."""
    parts = [data[place : place + size] for place in range(0, len(data), size)] or [b""]
    return [
        client_frame(CONTINUATION if place else opcode, part, fin=place + 1 == len(parts))
        for place, part in enumerate(parts)
    ]


def _framing():
    for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
        for size in (0, 1, 125, 126, 127, 128, 65535, 65536):
            data = b"*" * size
            yield f"{name} of {size}", whole(client_frame(opcode, data), messages=[(opcode, data)])
    yield "masked with zeros", whole(text(b"abc", key=bytes(4)), messages=[(TEXT, b"abc")])
    yield "zeros", whole(client_frame(BINARY, bytes(70)), messages=[(BINARY, bytes(70))])
    yield (
        "zeros, masked with zeros",
        whole(client_frame(BINARY, bytes(70), key=bytes(4)), messages=[(BINARY, bytes(70))]),
    )
    yield "not masked", fails(b"\x81\x03abc")
    yield "a length of 16 bits for 5", Case((b"\x81\xfe\x00\x05\0\0\0\0hello", END))
    yield "a length of 64 bits for 5", Case((b"\x81\xff" + bytes(7) + b"\x05\0\0\0\0hello", END))
    yield "a length with its highest bit", Case((b"\x81\xff\x80" + bytes(7) + b"\0\0\0\0", END))
    yield (
        "three messages in one piece",
        whole(text(b"a") + text(b"b") + text(b"c"), messages=[(TEXT, b"a"), (TEXT, b"b"), (TEXT, b"c")]),
    )


def _pings():
    for name, data in {
        "empty": b"",
        "of text": b"Hello, world!",
        "of bytes": b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff",
        "of 125": b"\xfe" * 125,
    }.items():
        yield f"ping {name}", whole(client_frame(PING, data), pongs=[data])
    yield "ping of 126", fails(client_frame(PING, b"\xfe" * 126))
    yield "pong", whole(client_frame(PONG))
    yield "pong with payload", whole(client_frame(PONG, b"unsolicited"))
    yield "pong of 126", fails(client_frame(PONG, b"u" * 126))
    yield "pong and ping", whole(client_frame(PONG, b"unsolicited"), client_frame(PING, b"p"), pongs=[b"p"])
    several = [b"payload-%d" % number for number in range(10)]
    yield "ten pings", whole(*(client_frame(PING, each) for each in several), pongs=several)
    mixed = [client_frame(PING, b"p1"), text(b"a"), client_frame(PING, b"p2"), text(b"b")]
    yield "pings between messages", whole(*mixed, messages=[(TEXT, b"a"), (TEXT, b"b")], pongs=[b"p1", b"p2"])


def _reserved():
    for bits in range(1, 8):
        yield f"reserved bits {bits}", fails(text(b"a", reserved=bits))
        yield (
            f"reserved bits {bits} behind a message",
            fails(text(b"a"), text(b"b", reserved=bits), client_frame(PING), messages=[(TEXT, b"a")], pongs=[b""]),
        )
        yield f"reserved bits {bits} of a ping", fails(client_frame(PING, reserved=bits))
        yield f"reserved bits {bits} of a close frame", fails(client_frame(CLOSE, reserved=bits))
        yield f"reserved bits {bits} of binary", fails(client_frame(BINARY, b"\xff", reserved=bits))


def _opcodes():
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield f"opcode {opcode}", fails(client_frame(opcode))
        yield f"opcode {opcode} with payload", fails(client_frame(opcode, b"payload"))
        yield (
            f"opcode {opcode} behind a message",
            fails(text(b"a"), client_frame(opcode), client_frame(PING), messages=[(TEXT, b"a")], pongs=[b""]),
        )


def _fragmentation():
    yield "a ping in fragments", fails(client_frame(PING, b"a", fin=False), client_frame(CONTINUATION, b"b"))
    yield "a pong in fragments", fails(client_frame(PONG, b"a", fin=False), client_frame(CONTINUATION, b"b"))
    yield "a close frame in fragments", fails(client_frame(CLOSE, b"", fin=False), client_frame(CONTINUATION))
    first, last = in_parts(b"fragment1fragment2", 9)
    message = (TEXT, b"fragment1fragment2")
    yield "two fragments", whole(first, last, messages=[message])
    yield "two fragments in one piece", whole(first + last, messages=[message])
    yield (
        "a ping between fragments",
        whole(first, client_frame(PING, b"p"), last, messages=[message], pongs=[b"p"]),
    )
    yield "a pong between fragments", whole(first, client_frame(PONG, b"p"), last, messages=[message])
    for fin in (True, False):
        odd = client_frame(CONTINUATION, b"non-continuation", fin=fin)
        yield f"a continuation of nothing, fin {fin}", fails(odd, text(b"a"))
        yield f"a continuation behind a message, fin {fin}", fails(text(b"a"), odd, messages=[(TEXT, b"a")])
        yield f"a continuation behind fragments, fin {fin}", fails(first, last, odd, messages=[message])
    yield "another message between fragments", fails(first, text(b"other"))
    yield "another message in fragments between fragments", fails(first, text(b"other", fin=False), last)
    parts = in_parts(b"fragment1fragment2fragment3fragment4fragment5", 9)
    pings = [client_frame(PING, b"p%d" % number) for number in range(len(parts))]
    mixed = [frame for pair in zip(parts, pings, strict=True) for frame in pair]
    payloads = [b"p%d" % number for number in range(len(parts))]
    five = (TEXT, b"fragment1fragment2fragment3fragment4fragment5")
    yield "pings between five fragments", whole(*mixed, messages=[five], pongs=payloads)
    yield "pings between five fragments, one piece", whole(b"".join(mixed), messages=[five], pongs=payloads)
    empty = [text(b"", fin=False), client_frame(CONTINUATION, b"", fin=False), client_frame(CONTINUATION)]
    yield "empty fragments", whole(*empty, messages=[(TEXT, b"")])
    middle = [text(b"", fin=False), client_frame(CONTINUATION, b"middle", fin=False), client_frame(CONTINUATION)]
    yield "empty fragments around one", whole(*middle, messages=[(TEXT, b"middle")])
    yield "fragments that do not end", Case((*in_parts(b"fragment1fragment2", 9)[:1], END))


VALID = {
    "greek": "κόσμε",
    "german": "Hello-µ@ßöäüàá-UTF-8!!",
    "first of 1, 2, 3 and 4 bytes": "\0\x80\u0800\U00010000",
    "last of 1, 2, 3 and 4 bytes": "\x7f\u07ff\uffff\U0010ffff",
    "around the surrogates": "\ud7ff\ue000\ufffd",
    "noncharacters": "\ufffe\uffff\U0001fffe\U0010ffff",
}
INVALID = {
    "greek and a surrogate": "κόσμε".encode() + b"\xed\xa0\x80edited",
    "beyond the last": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "a continuation byte alone": b"\x80",
    "the last continuation byte": b"\xbf",
    "two continuation bytes": b"\x80\xbf",
    "a first byte alone": b"\xc2",
    "two of three bytes": b"\xe2\x82",
    "three of four bytes": b"\xf0\x9f\x98",
    "an overlong slash": b"\xc0\xaf",
    "an overlong slash of three": b"\xe0\x80\xaf",
    "an overlong slash of four": b"\xf0\x80\x80\xaf",
    "an overlong zero": b"\xc0\x80",
    "a high surrogate": b"\xed\xa0\x80",
    "a low surrogate": b"\xed\xbf\xbf",
    "a pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
    "impossible bytes": b"\xfe\xfe\xff\xff",
}


def _utf8():
    for name, string in VALID.items():
        data = string.encode()
        yield f"valid, {name}", whole(text(data), messages=[(TEXT, data)])
        yield f"valid, {name}, a byte a fragment", whole(*in_parts(data, 1), messages=[(TEXT, data)])
        yield (
            f"valid, {name}, in a close frame",
            whole(end=client_frame(CLOSE, struct.pack("!H", 1000) + data), codes=(1000,)),
        )
    for name, data in INVALID.items():
        yield f"invalid, {name}", fails(text(data), codes=(NOT_UTF8,))
        yield f"invalid, {name}, a byte a fragment", fails(*in_parts(data, 1), codes=(NOT_UTF8,))
        yield (
            f"invalid, {name}, behind a message",
            fails(text(b"a"), text(data), messages=[(TEXT, b"a")], codes=(NOT_UTF8,)),
        )
        yield f"invalid, {name}, as binary", whole(client_frame(BINARY, data), messages=[(BINARY, data)])
    yield (
        "a fragment ends within a character",
        whole(*in_parts("κόσμε".encode(), 3), messages=[(TEXT, "κόσμε".encode())]),
    )


def close(code, reason=b""):
    return client_frame(CLOSE, struct.pack("!H", code) + reason)


def _closing():
    yield "close without code", whole(end=client_frame(CLOSE), codes=(1000, 1005))
    yield "close with a reason", whole(end=close(1000, b"Hello World!"))
    yield "close with the longest reason", whole(end=close(1000, b"*" * 123))
    yield "close with too long a reason", Case((close(1000, b"*" * 124),), Expected(codes=frozenset({PROTOCOL})))
    yield "close with half a code", Case((client_frame(CLOSE, b"\x03"),), Expected(codes=frozenset({PROTOCOL})))
    bad = close(1000, INVALID["greek and a surrogate"])
    yield "close with a reason that is not UTF-8", Case((bad,), Expected(codes=frozenset({NOT_UTF8})))
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield f"close {code}", whole(end=close(code), codes=(code, 1000))
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        expected = Expected(codes=frozenset({PROTOCOL}))
        yield (
            f"close {code}, which means nothing",
            Case((close(code),), None if code in {1016, 1100} else expected),
        )
    yield "two close frames", whole(END, messages=[])
    yield "a message behind the close frame", whole(END, text(b"late"), end=b"")
    yield "a ping behind the close frame", whole(END, client_frame(PING, b"late"), end=b"")
    yield "a close frame behind a message", whole(text(b"a"), messages=[(TEXT, b"a")])
    yield "a close frame between fragments", whole(*in_parts(b"fragment1fragment2", 9)[:1])
    yield "a message and a close frame in one piece", whole(end=text(b"a") + END, messages=[(TEXT, b"a")])


def _limits():
    for size in (1 << 16, 1 << 18, 1 << 20, 4 << 20):
        for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
            data = b"*" * size
            yield f"large {name} of {size}", whole(client_frame(opcode, data), messages=[(opcode, data)])
    data = b"*" * (1 << 20)
    for size in (256, 1 << 10, 1 << 14, 1 << 18):
        yield f"a MiB in fragments of {size}", whole(b"".join(in_parts(data, size)), messages=[(TEXT, data)])
    yield "17 MiB", fails(client_frame(BINARY, bytes(17 << 20)), codes=(TOO_BIG,))
    many = [(TEXT, b"message %d" % number) for number in range(500)]
    yield "many messages", whole(b"".join(text(data) for _, data in many), messages=many)
    sizes = [(BINARY, bytes([number % 256]) * (number * 37)) for number in range(1, 150)]
    yield "messages of all sizes", whole(*(client_frame(*each) for each in sizes), messages=sizes)
    half = [(TEXT, b"x" * 40_000)] * 6
    yield "messages that fill a buffer", whole(*(client_frame(*each) for each in half), messages=half)


OFFERS = (
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_no_context_takeover; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover; client_max_window_bits",
    "permessage-deflate; server_max_window_bits=9; client_max_window_bits",
    "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
    "permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
    "permessage-deflate; unknown, permessage-deflate",
    "unknown; a=b",
)


def _deflated():
    sizes = (0, 1, 16, 125, 126, 1000, 65536, 200_000)
    for offer in OFFERS:
        messages = tuple((TEXT, b"message %d, " % number * (size // 8)) for number, size in enumerate(sizes))
        yield offer, Case((END,), Expected(messages), offer, messages)
    many = tuple((BINARY, b"the same again %d" % (number % 7)) for number in range(100))
    yield "many", Case((END,), Expected(many), OFFERS[1], many)
    one = ((TEXT, b"compressed"),)
    sent = (text(b"plain"), END)
    yield "plain behind a compressed one", Case(sent, Expected((*one, (TEXT, b"plain"))), OFFERS[1], one)
    raw = zlib.compress(b"fragment1fragment2", wbits=-12)
    parts = [text(raw[:5], fin=False, reserved=4), client_frame(CONTINUATION, raw[5:] + b"\x00")]
    yield "compressed, in fragments", Case((*parts, END), None, OFFERS[1])
    bad = [text(b"\xff\xff\xff\xff", reserved=4)]
    yield "compressed nonsense", Case((*bad, END), None, OFFERS[1])
    ping = client_frame(PING, b"p", reserved=4)
    yield "a compressed ping", Case((ping, END), Expected(codes=frozenset({PROTOCOL})), OFFERS[1])
    for bits in (1, 2, 3, 5, 6, 7):
        odd = text(b"a", reserved=bits)
        yield f"reserved bits {bits}", Case((odd, END), Expected(codes=frozenset({PROTOCOL})), OFFERS[1])
    nobody = text(b"a", reserved=4)
    yield "compressed, though nothing was agreed", Case((nobody, END), Expected(codes=frozenset({PROTOCOL})))


SECTIONS = {
    "framing": _framing,
    "pings": _pings,
    "reserved": _reserved,
    "opcodes": _opcodes,
    "fragmentation": _fragmentation,
    "UTF-8": _utf8,
    "closing": _closing,
    "limits": _limits,
    "deflated": _deflated,
}
CASES = {f"{section}: {name}": case for section, make in SECTIONS.items() for name, case in make()}
