"""The clients in a scenario of the test of random kills, and their requests. See `_kill_plans`."""

import socket
import struct
from dataclasses import dataclass, field

SIGNATURE_V2 = b"\r\n\r\n\0\r\nQUIT\n"
URGENT = (1, 20, 34, 100, 300)  # numbers of urgent bytes to send
LINGER_SECONDS = 0.3  # how long a client reads whose answer is not certain
PAUSE_SECONDS = 0.02  # long enough for a worker to read what was sent, most of the time


@dataclass
class Exchange:
    """A request, or a line to a raw handler, and the answer that it must get.

    Attributes:
        token: A text that no other request contains.
        data: The bytes of the request.
        method: The HTTP method; LINE for a raw handler.
        answer: The body of the right response, or the answer to a line.
        status: The status of a whole response.
        plain: Whether it must be answered after one death, if only by a 502 (TCP only).
        opaque: Whether its connection may be closed without an answer.
        head: The length of its head; the rest waits for a 100 Continue, if the request expects one.
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
class PlannedClient:
    """A client with one connection: its requests, and the steps in which it sends and reads."""

    number: int
    unix: bool
    header: bytes
    address: str
    exchanges: list = field(default_factory=list)
    steps: list = field(default_factory=list)
    hostile: bool = False  # its answers are not checked, except for bytes of other clients
    slow: bool = False
    resets: bool = False
    closes: bool = False  # the server ends its connection


def plan_client(rng, number, proxied):
    unix = rng.random() < 0.3
    header, address = b"", "-"
    if proxied:
        host, port = f"192.0.2.{rng.randint(1, 254)}", rng.randint(1024, 65535)
        address = f"{host}:{port}"
        header = _header(rng.random() < 0.5, host, port)
    return PlannedClient(number, unix, header, address)


def _header(first, host, port):
    if first:
        return f"PROXY TCP4 {host} 198.51.100.1 {port} 80\r\n".encode()
    addresses = socket.inet_aton(host) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", port, 80)
    return SIGNATURE_V2 + struct.pack("!BBH", 0x21, 0x11, len(addresses)) + addresses


def begin(rng, client, *, halves):
    client.steps.append((client.number, "open", None))
    cut = rng.randint(1, max(1, len(client.header) - 1)) if halves else 0
    parts = (client.header[:cut], client.header[cut:])
    client.steps += [(client.number, "send", part) for part in parts if part]
    if halves:
        client.steps.insert(-1, (None, "pause", PAUSE_SECONDS))
