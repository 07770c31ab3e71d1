"""The client that a PROXY header named, stored in the connection's slot for the next worker.

The header's bytes are gone once a worker has read them, so the next worker cannot read them again.

The first of the words CLIENT is 1, plus 2 if the client spoke TLS, plus the client's port above the lower 16 bits.
The other two are the client's address as IPv6, IPv4 ones mapped; both are 0 for a client without an address.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from fdpass.serve.shared.slots import BASE, CLIENT
from fdpass.serve.worker.passed_socket import PassedSocket

_MAPPED = bytes(10) + b"\xff\xff"
_TWO_WORDS = struct.Struct("=qq")


def store_client(words: Any, passed: PassedSocket, length: int) -> None:
    """Store in a slot the client that a socket has from its PROXY header.

    Args:
        words: The slot.
        passed: Its socket.
        length: Of the header, in bytes.
    """
    packed = bytes(16)
    port = 0
    if isinstance(passed.client, tuple):
        host, port = passed.client
        packed = ipaddress.ip_address(host).packed
        packed = packed if len(packed) == 16 else _MAPPED + packed
    words[CLIENT + 1], words[CLIENT + 2] = _TWO_WORDS.unpack(packed)
    words[CLIENT] = 1 + 2 * passed.tls_by_proxy + (port << 16)
    # The last store: a worker that finds BASE at 0 reads the bytes as a header once more, else never again.
    words[BASE] = length


def load_client(words: Any, passed: PassedSocket) -> bool:
    """Tell a socket its client, if another worker has stored one. False if no worker has."""
    if not words[BASE]:
        return False
    first = words[CLIENT]
    passed.tls_by_proxy = bool(first & 2)
    packed = _TWO_WORDS.pack(words[CLIENT + 1], words[CLIENT + 2])
    if any(packed):
        address = ipaddress.IPv6Address(packed)
        passed.client = (str(address.ipv4_mapped or address), first >> 16)
    return True
