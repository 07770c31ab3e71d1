"""The store: its bounds, its order, duplicates, and what is at its end."""

import contextlib
import errno
import fcntl
import os
import socket
import struct

import pytest

from fdpass import Fd
from fdpass._keep import same_file as same_files
from fdpass._keep.same_file import identity, same_file
from fdpass._keep.store import Store
from fdpass._supervision.loop import Loop
from fdpass.testing import full_table


@pytest.fixture
def loop():
    with contextlib.closing(Loop()) as loop:
        yield loop


@pytest.fixture
def new_store(loop):
    with contextlib.ExitStack() as held:
        yield lambda most=10, names=(): held.enter_context(contextlib.closing(Store(loop, most, names)))


@pytest.fixture
def store(new_store):
    return new_store()


def memory(text=b"x"):
    fd = Fd(os.memfd_create("test"))
    os.write(fd.fileno(), text)
    return fd


def pipe():
    return tuple(map(Fd, os.pipe()))


def turn(loop):
    """Let the loop handle what has happened."""
    loop.call_later(0, loop.stop)
    loop.run()


def names(store):
    return [each.name for each in store.all()]


def test_descriptors_are_kept_in_order_with_their_names_and_numbers(store):
    assert store.add([memory(), memory()], "a", poll=True) == 0
    assert store.add([memory()], "b", poll=True) == 0
    assert [(each.number, each.name) for each in store.all()] == [(1, "a"), (2, "a"), (3, "b")]
    assert [each.number for each in store.named("a")] == [1, 2]
    assert store.remove([1, 3, 99]) == 2
    store.add([memory()], "c", poll=True)
    assert [(each.number, each.name) for each in store.all()] == [(2, "a"), (4, "c")]


def test_a_full_store_closes_the_rest_and_counts_it(new_store):
    store = new_store(2)
    fds = [memory() for _ in range(5)]
    assert store.add(fds, "n", poll=True) == 3
    assert all(fd.closed for fd in fds)  # two of them were moved into the store
    assert len(store) == 2


def test_a_store_of_none_stores_nothing(new_store):
    assert new_store(0).add([memory()], "n", poll=True) == 1


def test_the_names_of_all_fit_into_one_variable(new_store):
    """Those of the listeners count, too. What is removed makes room."""
    store = new_store(1000, ["l" * 255] * 400)
    refused = store.add([memory() for _ in range(100)], "n" * 255, poll=True)
    assert len(store) == 120_000 // 256 - 400
    assert refused == 100 - len(store)
    store.remove([store.all()[0].number])
    assert store.add([memory()], "n" * 255, poll=True) == 0


def test_a_duplicate_is_closed_and_another_open_file_is_stored(store):
    original = memory()
    copy = original.dup()
    other = Fd(os.open(f"/proc/self/fd/{original.fileno()}", os.O_RDONLY))
    assert store.add([original, copy], "a", poll=True) == 0
    assert store.add([other], "b", poll=True) == 0
    assert names(store) == ["a", "b"]
    assert copy.closed


def test_a_descriptor_that_was_removed_can_be_stored_again(store):
    fd = memory()
    store.add([fd.dup()], "a", poll=True)
    store.remove([1])
    store.add([fd], "a", poll=True)
    assert [each.number for each in store.all()] == [2]


def test_a_descriptor_at_its_end_is_removed(store, loop):
    reader, writer = pipe()
    store.add([writer], "w", poll=True)
    turn(loop)
    assert names(store) == ["w"]
    reader.close()
    turn(loop)
    assert names(store) == []


def test_the_last_close_of_a_socket_does_not_wait_for_its_peer(store):
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
        store.add([Fd(os.dup(sock.fileno()))], "x", poll=False)
        store.close()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 4) == bytes(4)


def test_without_poll_it_stays(store, loop):
    reader, writer = pipe()
    store.add([writer], "w", poll=False)
    reader.close()
    turn(loop)
    assert [(each.name, each.watched) for each in store.all()] == [("w", False)]


def test_what_epoll_cannot_watch_stays(store, loop, tmp_path):
    with open(tmp_path / "file", "w") as file:
        store.add([Fd(os.dup(file.fileno())), memory()], "f", poll=True)
    turn(loop)
    assert [each.watched for each in store.all()] == [False, False]


def test_bytes_that_wait_do_not_wake_the_loop(store, loop, monkeypatch):
    """Only the end does: the program reads the bytes after its restart."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"question")
        store.add([Fd(theirs.detach())], "s", poll=True)
        monkeypatch.setattr(store, "_on_end", pytest.fail)
        turn(loop)
        assert names(store) == ["s"]


def test_many_that_end_at_once_are_all_removed(store, loop):
    pipes = [pipe() for _ in range(5)]
    store.add([writer for _, writer in pipes], "w", poll=True)
    for reader, _ in pipes:
        reader.close()
    turn(loop)
    assert names(store) == []


def test_close_closes_all(new_store):
    store = new_store()
    reader, writer = pipe()
    store.add([writer], "w", poll=True)
    store.close()
    assert os.read(reader.fileno(), 1) == b""
    reader.close()


def test_a_descriptor_is_stored_with_a_full_table(store):
    """To store takes no further descriptor."""
    fds = [memory(), memory()]
    with full_table():
        assert store.add(fds, "n", poll=True) == 0
    assert len(store) == 2


REAL = fcntl.fcntl


def old_fcntl(fd, call, *more):
    """fcntl(2) of Linux before 6.10."""
    if call == 1027:
        raise OSError(errno.EINVAL, "Invalid argument")
    return REAL(fd, call, *more)


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_duplicates_are_told_from_other_open_files(kernel, monkeypatch, tmp_path):
    """On older kernels by kind, inode and flags."""
    if kernel == "old":
        monkeypatch.setattr(same_files.fcntl, "fcntl", old_fcntl)
    with contextlib.ExitStack() as held:
        ours, theirs = map(held.enter_context, socket.socketpair())
        reader, writer = map(held.enter_context, pipe())
        event, other_event = (held.enter_context(Fd(os.eventfd(0))) for _ in range(2))
        file = held.enter_context(memory())
        reopened = held.enter_context(Fd(os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)))
        for fd in (ours, reader, file):
            copy = os.dup(fd.fileno())
            assert same_file(fd.fileno(), copy)
            os.close(copy)
        assert identity(ours.fileno()) != identity(theirs.fileno())
        assert identity(reader.fileno()) == identity(writer.fileno())
        assert not same_file(reader.fileno(), writer.fileno())
        assert not same_file(file.fileno(), reopened.fileno())
        assert not same_file(event.fileno(), other_event.fileno())


def test_a_descriptor_that_was_opened_with_o_path_is_stored_once(store, tmp_path):
    """fcntl(2) refuses most questions about it."""
    fd = Fd(os.open(tmp_path, os.O_PATH))
    assert store.add([fd, fd.dup()], "folder", poll=True) == 0
    assert names(store) == ["folder"]
