"""Receive buffers in shared memory: which one is taken, what is freed, and what the slot says of them when."""

import contextlib
import mmap
import os
import socket

import pytest

from fdpass._memory import common, mapped
from fdpass.serve.shared.slots import ATTEMPT, BASE, BUFFER, BUFFER_SIZE, FLAGS, ORIGIN, READ, WORDS, Flag
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import Reader

PAGE = mmap.PAGESIZE


class Memory:
    """Buffers in a memfd, and a slot."""

    def __init__(self, count):
        self.memory = common(count * BUFFER_SIZE, name="fdpass-test")
        self.map = mapped(self.memory)
        self.buffers = Buffers(self.map)
        self.words = [0] * WORDS
        self.scratch = memoryview(bytearray(BUFFER_SIZE))

    @property
    def resident(self):
        """Bytes that the kernel holds of it."""
        return os.fstat(self.memory.fileno()).st_blocks * 512

    def intake(self, *, marks=False):
        return Reader(self.words, self.buffers, self.scratch, marks=marks)

    def close(self):
        for view in self.buffers.views:
            view.release()
        self.map.close()
        self.memory.close()


@pytest.fixture
def memory():
    with contextlib.closing(Memory(4)) as memory:
        yield memory


def take(buffers):
    """The number of a buffer; 0 if there is none."""
    return buffers.free.pop() if buffers.free or buffers.more() else 0


def come(intake, data):
    """The kernel reads, in as many calls as it takes; what was to be fed on."""
    fed = b""
    while data:
        view = intake.place(-1)
        count = min(len(view), len(data))
        view[:count] = data[:count]
        fed += intake.came(count)
        data = data[count:]
    return fed


def content(memory, start, stop):
    """What the dispatcher finds between two positions."""
    base = (memory.words[BUFFER] - 1) * BUFFER_SIZE - memory.words[ORIGIN]
    return memory.map[base + start : base + stop]


# Buffers


def test_the_last_one_given_back_is_the_next_one_taken(memory):
    buffers = memory.buffers
    assert [take(buffers) for _ in range(3)] == [1, 2, 3]
    for number in (2, 1, 3):
        buffers.give_back(number, 10)
    assert [take(buffers) for _ in range(4)] == [3, 1, 2, 4]


def test_there_are_no_more_than_there_is_memory_for(memory):
    taken = [take(memory.buffers) for _ in range(6)]
    assert taken == [1, 2, 3, 4, 0, 0]
    memory.buffers.give_back(3, 0)
    assert take(memory.buffers) == 3


def test_no_memory_is_no_buffer():
    assert not Buffers(mmap.mmap(-1, PAGE)).more()


def test_none_overlaps_another(memory):
    numbers = [take(memory.buffers) for _ in range(4)]
    for number in numbers:
        memory.buffers.views[number][:] = bytes([number]) * BUFFER_SIZE
    assert memory.map[:] == b"".join(bytes([number]) * BUFFER_SIZE for number in numbers)


def test_a_buffer_costs_a_page_once_it_was_used(memory):
    """What a large request touched beyond it goes back to the kernel."""
    number = take(memory.buffers)
    memory.buffers.views[number][:] = b"x" * BUFFER_SIZE
    assert memory.resident == BUFFER_SIZE
    memory.buffers.give_back(number, BUFFER_SIZE)
    assert memory.resident == PAGE


def test_untouched_pages_are_not_asked_for(memory):
    number = take(memory.buffers)
    memory.buffers.views[number][:PAGE] = b"x" * PAGE
    memory.buffers.give_back(number, PAGE)
    assert memory.resident == PAGE


def test_freeing_one_touches_no_neighbour(memory):
    numbers = [take(memory.buffers) for _ in range(3)]
    for number in numbers:
        memory.buffers.views[number][:] = bytes([number]) * BUFFER_SIZE
    memory.buffers.give_back(2, BUFFER_SIZE)
    assert memory.map[:BUFFER_SIZE] == b"\1" * BUFFER_SIZE
    assert memory.map[2 * BUFFER_SIZE : 3 * BUFFER_SIZE] == b"\3" * BUFFER_SIZE


# Reader


def test_bytes_are_where_the_slot_says(memory):
    memory.words[BASE] = 700
    intake = memory.intake()
    assert come(intake, b"GET / HTTP/1.1\r\n") == b"GET / HTTP/1.1\r\n"
    assert come(intake, b"\r\n") == b"\r\n"
    assert (memory.words[BUFFER], memory.words[ORIGIN], memory.words[FLAGS]) == (1, 700, 0)
    assert content(memory, 700, 718) == b"GET / HTTP/1.1\r\n\r\n"
    assert intake.read == 718


@pytest.mark.parametrize("marks", [False, True])
@pytest.mark.parametrize("taken", [0, 4], ids=["in a buffer", "in none"])
def test_receive_is_place_and_the_kernel_and_came(memory, marks, taken):
    for _ in range(taken):
        take(memory.buffers)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        intake = memory.intake(marks=marks)
        with pytest.raises(BlockingIOError):
            intake.receive(ours)
        assert not memory.words[FLAGS] & Flag.READING
        for data in (b"GET / HTTP/1.1\r\n", b"Host: x\r\n\r\n"):
            theirs.send(data)
            assert intake.receive(ours) == data
        assert intake.read == 27
        if not taken:
            assert content(memory, 0, 27) == b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        assert memory.words[READ] == 27
        assert memory.words[FLAGS] == (Flag.OVERFLOW if taken else 0)
        theirs.close()
        assert intake.receive(ours) == b""
        assert intake.read == 27


def test_an_idle_connection_has_no_buffer(memory):
    intake = memory.intake()
    assert memory.words[BUFFER] == 0
    come(intake, b"x")
    intake.release()
    assert memory.words[BUFFER] == 0
    assert take(memory.buffers) == 1


def test_a_request_that_was_handed_over_begins_in_the_buffer(memory):
    memory.words[BASE] = 50
    intake = memory.intake()
    assert intake.begin(b"GET / HT")
    intake.read += 8
    come(intake, b"TP/1.1")
    assert content(memory, 50, 64) == b"GET / HTTP/1.1"


def test_a_full_buffer_is_used_again_and_the_slot_says_so_first(memory):
    intake = memory.intake()
    come(intake, b"x" * BUFFER_SIZE)
    assert memory.words[ORIGIN] == 0
    view = intake.place(-1)
    assert view == bytes(BUFFER_SIZE)
    assert memory.words[ORIGIN] == BUFFER_SIZE
    assert come(intake, b"y" * 100 + b"z" * BUFFER_SIZE) == b"y" * 100 + b"z" * BUFFER_SIZE


def test_the_next_request_behind_one_that_was_too_large_is_where_the_slot_says(memory):
    intake = memory.intake()
    come(intake, b"x" * BUFFER_SIZE + b"y" * 10 + b"next")
    assert content(memory, BUFFER_SIZE + 10, BUFFER_SIZE + 15) == b"next\0"
    assert memory.words[FLAGS] == 0


@pytest.mark.parametrize("size", [1, 100, PAGE, PAGE + 1, BUFFER_SIZE, BUFFER_SIZE + 1, 2 * BUFFER_SIZE])
def test_a_buffer_that_nobody_has_is_all_zeros(memory, size):
    """So nothing of one client can be taken for another's, whatever is believed to have been read."""
    intake = memory.intake()
    come(intake, b"x" * size)
    intake.release()
    assert memory.map[:] == bytes(len(memory.map))


def test_a_buffer_that_was_exchanged_is_all_zeros(memory):
    intake = memory.intake()
    come(intake, b"x" * 40_000 + b"rest")
    memory.words[BASE] = 40_000
    intake.exchange(b"rest")
    assert content(memory, 40_000, 40_005) == b"rest\0"
    assert memory.map[:].strip(b"\0") == b"rest"
    assert memory.words[FLAGS] == 0


def test_when_no_buffer_is_free_it_is_served_all_the_same_and_the_slot_says_so(memory):
    for _ in range(4):
        take(memory.buffers)
    intake = memory.intake()
    data = bytes(range(256)) * 600
    assert come(intake, data) == data
    assert (memory.words[BUFFER], memory.words[FLAGS]) == (0, Flag.OVERFLOW)
    assert intake.read == len(data)
    intake.release()
    assert memory.words[ORIGIN] == 0


def test_a_buffer_that_comes_free_later_does_not_pass_for_the_whole(memory):
    for _ in range(4):
        take(memory.buffers)
    intake = memory.intake()
    come(intake, b"begun")
    memory.buffers.give_back(2, 0)
    come(intake, b" and ended")
    assert (memory.words[BUFFER], memory.words[ORIGIN]) == (2, 5)
    assert memory.words[FLAGS] & Flag.OVERFLOW


@pytest.mark.parametrize("size", [BUFFER_SIZE, BUFFER_SIZE + 10, 3 * BUFFER_SIZE + 5])
def test_of_a_large_request_only_a_page_remains(memory, size):
    """Also if it went round, and the last of it lies at the buffer's start."""
    intake = memory.intake()
    come(intake, b"x" * size)
    intake.release()
    assert memory.resident == PAGE


@pytest.mark.parametrize("taken", [0, 4], ids=["in a buffer", "in none"])
def test_of_a_unix_socket_a_read_is_marked_before_and_after(memory, taken):
    for _ in range(taken):
        take(memory.buffers)
    intake = memory.intake(marks=True)
    intake.place(-1)
    assert memory.words[FLAGS] & Flag.READING
    assert memory.words[READ] == 0
    intake.came(10)
    assert not memory.words[FLAGS] & Flag.READING
    assert memory.words[READ] == 10


def test_of_a_tcp_socket_a_read_is_marked_afterwards(memory):
    intake = memory.intake()
    intake.place(-1)
    assert (memory.words[FLAGS], memory.words[READ]) == (0, 0)
    intake.came(10)
    assert (memory.words[FLAGS], memory.words[READ]) == (0, 10)


@pytest.mark.parametrize("marks", [False, True])
def test_once_the_connection_is_lost_nothing_is_written_into_its_slot(memory, marks):
    """It is another connection's by then; and its buffer is another's too."""
    intake = memory.intake(marks=marks)
    come(intake, b"x" * 10)
    before = list(memory.words)
    intake.forget()
    assert memory.words == before  # without BUFFER it would look idle
    assert take(memory.buffers) == 1
    come(intake, b"y" * (BUFFER_SIZE + 10))
    intake.release()
    intake.forget()
    assert memory.words == before
    assert memory.words[ATTEMPT] == 0
