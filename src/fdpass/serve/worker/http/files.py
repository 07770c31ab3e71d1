"""What a response needs whose body is a file: `open_file`, and `frame` for the bytes around the file."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from typing import IO, Self

from fdpass.serve.worker.http.response import CHUNKED, CLOSE, LENGTH, with_length


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of an open, regular file; a WSGI application's ``wsgi.file_wrapper`` sends it.

    Attributes:
        number: The descriptor. Lent until the part is sent.
        offset: Where the part begins.
        count: Its length.
    """

    number: int
    offset: int
    count: int

    def cut(self, count: int) -> Self:
        """The first ``count`` bytes."""
        return replace(self, count=count)


def open_file(path: str | FilePart) -> tuple[IO[bytes], int, int]:
    """Open a file to be sent.

    Returns:
        The file, owned by the caller; the offset at which to begin, and the one before which to end.

    Raises:
        OSError: As of open(2).
        RuntimeError: It is not a regular file: a FIFO or a device may have no end.
    """
    if isinstance(path, FilePart):
        return open(os.dup(path.number), "rb", buffering=0), path.offset, path.offset + path.count
    file = open(path, "rb", buffering=0, opener=_open_now)  # noqa: SIM115 - the caller closes it
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise RuntimeError(f"{path!r} is not a regular file")
    return file, 0, status.st_size


def _open_now(path: str, flags: int) -> int:
    """Open a file; without O_NONBLOCK, open(2) of a FIFO waits until another process opens it to write."""
    return os.open(path, flags | os.O_NONBLOCK)


def frame(head: bytes, framing: int, left: int, count: int) -> tuple[bytes, bytes]:
    """What is sent before and after a file that is the rest of the body.

    Args:
        head: Of the response, if it has not been sent.
        framing: Of the response.
        left: How many bytes of the Content-Length are left, if the framing is LENGTH.
        count: The size of the file.

    Raises:
        RuntimeError: The file has another size than what is left.
    """
    if framing == LENGTH and count != left:
        raise RuntimeError(f"the file has {count} bytes, but {left} of the Content-Length are left")
    if framing == CLOSE and head:
        head = with_length(head, count)
    if framing != CHUNKED:
        return head, b""
    return (head + b"%x\r\n" % count, b"\r\n0\r\n\r\n") if count else (head, b"0\r\n\r\n")
