"""Who takes part in a scenario of the test of random kills, and what each says. See `_kill_plans`."""

import socket
import struct
from dataclasses import dataclass, field

SIGNATURE_V2 = b"\r\n\r\n\0\r\nQUIT\n"
URGENT = (1, 20, 34, 100, 300)  # how many such bytes
LINGER_SECONDS = 0.3  # in which a client that is owed nothing certain sees what it gets
PAUSE_SECONDS = 0.02  # in which a worker has read what was sent, most of the time


@dataclass
class Said:
    """A request, or a line.

    Attributes:
        token: Of it alone.
        data: Its bytes.
        method: Of HTTP; LINE.
        answer: What the body of the answer has to be, or the answer to a line.
        status: Of a whole answer.
        plain: After one death it has still to be answered, by a 502 at worst, if it came over TCP.
        opaque: Its connection may be closed without an answer.
        head: Where its head ends; the rest waits for a 100 Continue, if that is asked for.
    """

    token: str
    data: bytes
    method: str
    answer: bytes
    status: int = 200
    plain: bool = True
    opaque: bool = False
    waits: bool = False
    head: int = 0


@dataclass
class Actor:
    """A client with one connection."""

    number: int
    unix: bool
    header: bytes
    client: str
    said: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    hostile: bool = False  # what it is answered is nobody's business, if it has nothing of another client
    slow: bool = False
    resets: bool = False
    closes: bool = False  # the server ends its connection


def client(rng, number, proxied):
    unix = rng.random() < 0.3
    header, client = b"", "-"
    if proxied:
        host, port = f"192.0.2.{rng.randint(1, 254)}", rng.randint(1024, 65535)
        header, client = _header(rng.random() < 0.5, host, port), f"{host}:{port}"
    return Actor(number, unix, header, client)


def _header(first, host, port):
    if first:
        return f"PROXY TCP4 {host} 198.51.100.1 {port} 80\r\n".encode()
    addresses = socket.inet_aton(host) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", port, 80)
    return SIGNATURE_V2 + struct.pack("!BBH", 0x21, 0x11, len(addresses)) + addresses


def begin(rng, actor, *, halves):
    actor.steps.append((actor.number, "open", None))
    cut = rng.randint(1, max(1, len(actor.header) - 1)) if halves else 0
    parts = (actor.header[:cut], actor.header[cut:])
    actor.steps += [(actor.number, "send", part) for part in parts if part]
    if halves:
        actor.steps.insert(-1, (None, "pause", PAUSE_SECONDS))
