"""The *page* of a connection: the request that opened its WebSocket or event stream. Pure but for madvise(2).

All pages are in one sparse memory, 8 KiB for each slot; a page takes memory only while its stream is open. The
worker that opens a stream writes the page before it stores OPEN; a worker that continues it reads the page, and
counts. So nothing has to be copied when the connection changes its worker. The dispatcher forgets the page when
the connection ends, so that no later connection of the slot can find it.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

PAGE_SIZE = 8 * 1024
"""Size of a page in bytes."""

WEBSOCKET, EVENTS = 1, 2
"""Kinds of open streams."""

_FACTS = struct.Struct("=IIII")  # kind; how often another worker continued it; lengths of `head` and `agreed`
_LONGEST = PAGE_SIZE - _FACTS.size


class Page(NamedTuple):
    """What a page says.

    Attributes:
        kind: WEBSOCKET or EVENTS; 0 if the connection has no open stream.
        resumed: How often another worker has continued the stream.
        head: The head of the request that opened it, as it came.
        agreed: What the response's head said, and must say again: see the worker.
    """

    kind: int
    resumed: int
    head: bytes
    agreed: bytes


def store(pages: mmap.mmap, slot: int, page: Page) -> bool:
    """Write a page; False, and nothing is written, if it is too long."""
    if len(page.head) + len(page.agreed) > _LONGEST:
        return False
    start = slot * PAGE_SIZE
    data = _FACTS.pack(page.kind, page.resumed, len(page.head), len(page.agreed)) + page.head + page.agreed
    pages[start : start + len(data)] = data
    return True


def load(pages: mmap.mmap, slot: int) -> Page:
    """Read a page. Its worker can have written anything: the lengths are held within the page."""
    start = slot * PAGE_SIZE
    kind, resumed, first, second = _FACTS.unpack_from(pages, start)
    first = min(first, _LONGEST)
    second = min(second, _LONGEST - first)
    start += _FACTS.size
    return Page(kind, resumed, pages[start : start + first], pages[start + first : start + first + second])


def kind_of(pages: mmap.mmap, slot: int) -> int:
    """The kind of a page alone."""
    kind: int = _FACTS.unpack_from(pages, slot * PAGE_SIZE)[0]
    return kind


def count_resumed(pages: mmap.mmap, slot: int) -> None:
    """Another worker continues the stream."""
    kind, resumed, first, second = _FACTS.unpack_from(pages, slot * PAGE_SIZE)
    _FACTS.pack_into(pages, slot * PAGE_SIZE, kind, (resumed + 1) % 2**32, first, second)


def forget(pages: mmap.mmap, slot: int) -> None:
    """The stream has ended: give the memory of its page back, which reads as zeros from now on."""
    pages.madvise(mmap.MADV_REMOVE, slot * PAGE_SIZE, PAGE_SIZE)
