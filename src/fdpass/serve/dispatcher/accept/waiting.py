"""`Waiting`: a connection that waits for a worker. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple


class Waiting(NamedTuple):
    """A connection that waits for a worker.

    Attributes:
        slot: Its slot.
        fd: Its descriptor; in custody, the one kept there.
        since: When it was accepted, or taken back: see `short_clock`.
        client: The client's address, as of accept(2).
        read: Bytes of a request that another worker has read.
    """

    slot: int
    fd: int
    since: int
    client: Any = None
    read: bytes = b""
