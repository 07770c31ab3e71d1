"""The *page* of a connection: the request that opened its WebSocket or event stream. Pure but for madvise(2).

All pages are in one sparse memory, 68 KiB for each slot, most of which is never touched; a page takes memory only
while its stream is open. The worker that opens a stream writes the page before it stores OPEN; a worker that
continues it reads the page, and counts. So nothing has to be copied when the connection changes its worker. The
dispatcher forgets the page when the connection ends, so that no later connection of the slot can find it.

The page also has a *backlog*: bytes of messages for a slow client that the kernel has not taken yet. If their
worker dies, the next one sends them.
"""

from __future__ import annotations

import mmap
import struct
import time
from typing import NamedTuple

HEAD_SIZE = 8 * 1024
"""Bytes of a page for the request and what was agreed."""

BACKLOG_SIZE = 60 * 1024
"""Bytes of a page for the backlog."""

PAGE_SIZE = HEAD_SIZE + BACKLOG_SIZE
"""Size of a page in bytes."""

WEBSOCKET, EVENTS = 1, 2
"""Kinds of open streams."""

_FACTS = struct.Struct("=IIIIq")  # `kind`; `resumed`; lengths of `head` and `agreed`; `opened`
_START = _FACTS.size  # where the page has the position of the backlog's first byte
_END = _START + 8  # and the position behind its last one; 0 = there is no backlog
_WORD = struct.Struct("q")  # native, so that one store writes it
_TEXTS = _END + 8
_LONGEST = HEAD_SIZE - _TEXTS


class Page(NamedTuple):
    """What a page says.

    Attributes:
        kind: WEBSOCKET or EVENTS; 0 if the connection has no open stream.
        resumed: How often another worker has continued the stream.
        head: The head of the request that opened it, as it came.
        agreed: What the response's head said, and must say again: see the worker.
        opened: When the stream was opened: nanoseconds of CLOCK_MONOTONIC, which all processes share.
    """

    kind: int
    resumed: int
    head: bytes
    agreed: bytes
    opened: int = 0

    @property
    def age(self) -> float:
        """How many seconds ago the stream was opened."""
        return max(0, time.monotonic_ns() - self.opened) / 1e9


def store(pages: mmap.mmap, slot: int, page: Page) -> bool:
    """Write a page; False, and nothing is written, if it is too long."""
    if len(page.head) + len(page.agreed) > _LONGEST:
        return False
    start = slot * PAGE_SIZE
    texts = page.head + page.agreed
    pages[start + _TEXTS : start + _TEXTS + len(texts)] = texts
    _FACTS.pack_into(pages, start, page.kind, page.resumed, len(page.head), len(page.agreed), page.opened)
    drop_backlog(pages, slot)
    return True


def load(pages: mmap.mmap, slot: int) -> Page:
    """Read a page. Its worker can have written anything: the lengths are held within the page."""
    start = slot * PAGE_SIZE
    kind, resumed, first, second, opened = _FACTS.unpack_from(pages, start)
    first = min(first, _LONGEST)
    second = min(second, _LONGEST - first)
    start += _TEXTS
    head, agreed = pages[start : start + first], pages[start + first : start + first + second]
    return Page(kind, resumed, head, agreed, opened)


def kind_of(pages: mmap.mmap, slot: int) -> int:
    """The kind of a page alone."""
    kind: int = _FACTS.unpack_from(pages, slot * PAGE_SIZE)[0]
    return kind


def count_resumed(pages: mmap.mmap, slot: int) -> None:
    """Another worker continues the stream."""
    kind, resumed, *others = _FACTS.unpack_from(pages, slot * PAGE_SIZE)
    _FACTS.pack_into(pages, slot * PAGE_SIZE, kind, (resumed + 1) % 2**32, *others)


def forget(pages: mmap.mmap, slot: int) -> None:
    """The stream has ended: give the memory of its page back, which reads as zeros from now on."""
    pages.madvise(mmap.MADV_REMOVE, slot * PAGE_SIZE, PAGE_SIZE)


# The backlog


def keep_backlog(pages: mmap.mmap, slot: int, start: int, data: bytes | bytearray | memoryview) -> bool:
    """Keep bytes that the kernel has not taken, and which end where a message does, as FINAL_END says.

    Args:
        pages: All pages.
        slot: The slot.
        start: The position of the first byte.
        data: The bytes. If they are more than `BACKLOG_SIZE`, there is no backlog, and the result is False.
    """
    drop_backlog(pages, slot)
    if len(data) > BACKLOG_SIZE:
        return False
    page = slot * PAGE_SIZE
    place = page + HEAD_SIZE
    pages[place : place + len(data)] = data
    _WORD.pack_into(pages, page + _START, start)
    _WORD.pack_into(pages, page + _END, start + len(data))
    return True


def drop_backlog(pages: mmap.mmap, slot: int) -> None:
    """From now on there is no backlog."""
    _WORD.pack_into(pages, slot * PAGE_SIZE + _END, 0)


def backlog(pages: mmap.mmap, slot: int, position: int) -> tuple[bytes, int]:
    """The bytes of the backlog from a position on, and where they end; b"" if there are none.

    The worker can have written anything: what is returned lies within the page.
    """
    page = slot * PAGE_SIZE
    (start,), (end,) = _WORD.unpack_from(pages, page + _START), _WORD.unpack_from(pages, page + _END)
    if not 0 <= start <= position < end <= start + BACKLOG_SIZE:
        return b"", 0
    place = page + HEAD_SIZE
    return pages[place + position - start : place + end - start], end
