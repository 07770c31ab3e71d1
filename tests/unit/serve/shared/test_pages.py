"""Pages: what is stored is loaded, nonsense stays within the page, and memory is given back."""

import contextlib
import mmap
import os
import random
import struct

import pytest

from fdpass._memory import common, mapped
from fdpass.serve.shared import pages
from fdpass.serve.shared.pages import BACKLOG_SIZE, EVENTS, HEAD_SIZE, PAGE_SIZE, WEBSOCKET, Page

HEAD = b"GET /ws HTTP/1.1\r\nhost: x\r\n\r\n"
OPENED = Page(WEBSOCKET, 0, HEAD, b"sec-websocket-protocol: chat")


@pytest.fixture
def memory():
    """The memory of three pages, and the number of bytes that the kernel has allocated for it."""
    with (
        contextlib.closing(common(3 * PAGE_SIZE, name="fdpass-test")) as fd,
        contextlib.closing(mapped(fd)) as found,
    ):
        yield found, lambda: 512 * os.fstat(fd.fileno()).st_blocks


def test_a_page_says_what_was_stored_and_no_other_page_changes(memory):
    all_pages, _ = memory
    assert pages.store(all_pages, 1, OPENED)
    assert pages.load(all_pages, 1) == OPENED
    assert pages.kind_of(all_pages, 1) == WEBSOCKET
    for other in (0, 2):
        assert pages.load(all_pages, other) == Page(0, 0, b"", b"")


def test_a_shorter_request_leaves_nothing_of_a_longer_one(memory):
    all_pages, _ = memory
    pages.store(all_pages, 0, Page(WEBSOCKET, 7, b"x" * 5000, b"y" * 1000))
    pages.store(all_pages, 0, Page(EVENTS, 0, HEAD, b""))
    assert pages.load(all_pages, 0) == Page(EVENTS, 0, HEAD, b"")


def test_a_request_that_is_too_long_is_refused_and_changes_nothing(memory):
    all_pages, _ = memory
    pages.store(all_pages, 1, OPENED)
    most = HEAD_SIZE - 40
    assert not pages.store(all_pages, 1, Page(WEBSOCKET, 0, b"x" * most, b"y"))
    assert pages.load(all_pages, 1) == OPENED
    longest = Page(WEBSOCKET, 0, b"x" * (most - 1), b"y")
    assert pages.store(all_pages, 1, longest)
    assert pages.load(all_pages, 1) == longest


def test_each_worker_that_continues_a_stream_is_counted(memory):
    all_pages, _ = memory
    pages.store(all_pages, 2, OPENED)
    for count in (1, 2, 3):
        pages.count_resumed(all_pages, 2)
        assert pages.load(all_pages, 2) == OPENED._replace(resumed=count)
    pages.store(all_pages, 2, OPENED._replace(resumed=2**32 - 1))
    pages.count_resumed(all_pages, 2)
    assert pages.load(all_pages, 2).resumed == 0


def test_a_forgotten_page_is_empty_and_its_memory_is_given_back(memory):
    all_pages, allocated = memory
    opened = OPENED._replace(head=b"x" * 5000)
    for slot in range(3):
        pages.store(all_pages, slot, opened)
        pages.keep_backlog(all_pages, slot, 100, b"x" * BACKLOG_SIZE)
    assert allocated() == 3 * PAGE_SIZE
    pages.forget(all_pages, 1)
    assert allocated() == 2 * PAGE_SIZE
    assert pages.load(all_pages, 1) == Page(0, 0, b"", b"")
    assert pages.backlog(all_pages, 1, 100) == (b"", 0)
    assert pages.load(all_pages, 0) == pages.load(all_pages, 2) == opened


def test_a_stream_with_a_short_head_takes_one_page_of_memory(memory):
    all_pages, allocated = memory
    pages.store(all_pages, 1, OPENED)
    assert allocated() == mmap.PAGESIZE


# The backlog


def test_the_backlog_is_read_from_any_position_in_it(memory):
    all_pages, _ = memory
    assert pages.keep_backlog(all_pages, 1, 5000, bytearray(b"abcdef"))
    assert pages.backlog(all_pages, 1, 5000) == (b"abcdef", 5006)
    assert pages.backlog(all_pages, 1, 5004) == (b"ef", 5006)
    for position in (0, 4999, 5006, 5007):
        assert pages.backlog(all_pages, 1, position) == (b"", 0)
    pages.drop_backlog(all_pages, 1)
    assert pages.backlog(all_pages, 1, 5000) == (b"", 0)


def test_a_backlog_that_is_too_long_leaves_none(memory):
    all_pages, _ = memory
    assert pages.keep_backlog(all_pages, 1, 0, b"x" * BACKLOG_SIZE)
    assert pages.backlog(all_pages, 1, 1) == (b"x" * (BACKLOG_SIZE - 1), BACKLOG_SIZE)
    assert not pages.keep_backlog(all_pages, 1, 0, b"y" * (BACKLOG_SIZE + 1))
    assert pages.backlog(all_pages, 1, 0) == (b"", 0)
    assert pages.load(all_pages, 2) == Page(0, 0, b"", b"")


def test_a_new_stream_has_no_backlog_of_the_one_before(memory):
    all_pages, _ = memory
    pages.keep_backlog(all_pages, 1, 0, b"secret")
    pages.store(all_pages, 1, OPENED)
    assert pages.backlog(all_pages, 1, 0) == (b"", 0)


def test_nonsense_in_a_page_never_fails_and_stays_within_the_page(memory):
    """A worker can write anything; the page before and the one behind belong to other clients."""
    all_pages, _ = memory
    all_pages[:PAGE_SIZE] = all_pages[2 * PAGE_SIZE :] = b"\xff" * PAGE_SIZE
    made = random.Random(14)
    small = [0, 1, 2, 40, HEAD_SIZE - 33, HEAD_SIZE, PAGE_SIZE, 2**31, 2**32 - 1]
    large = [0, 1, 5000, BACKLOG_SIZE, BACKLOG_SIZE + 1, 2**62, 2**63 - 1, -1, -(2**63)]
    for _ in range(3000):
        facts = struct.pack("=IIIIqq", *made.choices(small, k=4), *made.choices(large, k=2))
        all_pages[PAGE_SIZE : PAGE_SIZE + len(facts)] = facts
        found = pages.load(all_pages, 1)
        kept, _ = pages.backlog(all_pages, 1, made.choice(large))
        pages.kind_of(all_pages, 1)
        pages.count_resumed(all_pages, 1)
        assert b"\xff" not in found.head + found.agreed + kept
        assert len(found.head) + len(found.agreed) <= HEAD_SIZE
