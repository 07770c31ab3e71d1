"""`body_of`: the body of a request as a file, ``wsgi.input`` of PEP 3333."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

_BUFFER = 16 * 1024


class ClientGone(ConnectionResetError):
    """The client has gone before the end of its request, or of the response."""


def body_of(known: bytes | None, ask: Callable[[], bytes]) -> Any:
    """Make the file.

    Args:
        known: The whole body, if it has come.
        ask: Waits for the next part, and returns it; b"" at the end. Raises ClientGone.
    """
    return io.BufferedReader(_Parts(ask), _BUFFER) if known is None else io.BytesIO(known)


class _Parts(io.RawIOBase):
    """The parts of a body, one after the other."""

    def __init__(self, ask: Callable[[], bytes]) -> None:
        self._ask = ask
        self._part = memoryview(b"")  # the rest of the last one

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._part or memoryview(self._ask())
        count = min(len(buffer), len(part))
        buffer[:count] = part[:count]
        self._part = part[count:]
        return count

    def readall(self) -> bytes:
        parts = [bytes(self._part)]
        self._part = memoryview(b"")
        while part := self._ask():
            parts.append(part)
        return b"".join(parts)
