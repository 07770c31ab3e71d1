"""The client that a PROXY header named, stored in the connection's slot for the next worker.

The header's bytes are gone once a worker has read them, so the next worker cannot read them again.
`shared.client_words` has the words.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from fdpass.serve.shared.client_words import TWO_WORDS, stored_client
from fdpass.serve.shared.slots import BASE, CLIENT
from fdpass.serve.worker.passed_socket import PassedSocket

_MAPPED = bytes(10) + b"\xff\xff"


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
    words[CLIENT + 1], words[CLIENT + 2] = TWO_WORDS.unpack(packed)
    words[CLIENT] = 1 + 2 * passed.tls_by_proxy + (port << 16)
    # The last store: a worker that finds BASE at 0 reads the bytes as a header once more, else never again.
    words[BASE] = length


def load_client(words: Any, passed: PassedSocket) -> bool:
    """Tell a socket its client, if another worker has stored one. False if no worker has."""
    if not words[BASE]:
        return False
    passed.tls_by_proxy = bool(words[CLIENT] & 2)
    passed.client = stored_client(words) or passed.client
    return True
