"""`FileWrapper`: ``wsgi.file_wrapper`` (PEP 3333). An application returns it, and the kernel sends the file."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import Any

from fdpass.serve.worker.http.files import FilePart


class FileWrapper:
    """The body of a response: the rest of a file.

    Args:
        filelike: Has ``read``. ``close``, if there is one, is called when the response is over.
        block_size: How much is read at once, unless the kernel sends the file.
    """

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        self._file = filelike
        self._block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Read a block."""
        block: bytes = self._file.read(self._block_size)
        if not block:
            raise StopIteration
        return block

    # Without these three, Werkzeug answers a request for a range by reading all that comes before it.

    def seekable(self) -> bool:
        """Whether `seek` and `tell` work."""
        return hasattr(self._file, "seekable") and self._file.seekable()

    def seek(self, *arguments: int) -> None:
        """See `io.IOBase`."""
        self._file.seek(*arguments)

    def tell(self) -> int:
        """See `io.IOBase`."""
        position: int = self._file.tell()
        return position

    def part(self) -> FilePart | None:
        """What the kernel can send: from the file's position to its end; None if it has to be read.

        Only files of the module ``io`` itself: other objects (gzip) read something else than their descriptor has.
        """
        file = self._file
        raw = getattr(file, "raw", file) if type(file) in {io.BufferedReader, io.BufferedRandom} else file
        if type(raw) is not io.FileIO:
            return None
        if file.writable():
            file.flush()
        try:
            status, offset = os.fstat(file.fileno()), file.tell()
        except OSError:  # it has no position
            return None
        if not stat.S_ISREG(status.st_mode) or not status.st_size:  # files of proc(5) have the size 0
            return None
        return FilePart(file.fileno(), offset, max(0, status.st_size - offset))
