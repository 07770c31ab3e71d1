"""`stored_client`: the client that a PROXY header named, out of the words CLIENT of a slot. Pure.

The first of the words is 1, plus 2 if the client spoke TLS, plus the client's port above the lower 16 bits. The
other two are the client's address as IPv6, IPv4 ones mapped; both are 0 for a client without an address.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from fdpass.serve.shared.slots import CLIENT

TWO_WORDS = struct.Struct("=qq")


def stored_client(words: Any) -> tuple[str, int] | None:
    """The client's address; None if none is stored."""
    packed = TWO_WORDS.pack(words[CLIENT + 1], words[CLIENT + 2])
    if not (words[CLIENT] and any(packed)):
        return None
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address), words[CLIENT] >> 16
