"""`Fd`: one owned descriptor, closed exactly once."""

import contextlib
import copy
import fcntl
import gc
import os
import pickle
import random
import select
import signal
import socket
import subprocess
import sys
import time
import warnings
from multiprocessing import reduction

import pytest

from fdpass import BadDescriptor, Channel, Closed, Fd, Message, NotADescriptor, NotFound, listen, share


def pipe():
    r, w = os.pipe()
    return Fd(r), Fd(w)


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_close_closes_once_and_may_be_called_again():
    """A second close must not close another file that has the number by then."""
    r, w = pipe()
    number = r.fileno()
    r.close()
    assert not is_open(number)
    other = os.open("/dev/null", os.O_RDONLY)
    try:
        assert other == number
        r.close()
        assert is_open(other)
    finally:
        os.close(other)
        w.close()


def test_take_moves_ownership():
    """After take the Fd is empty, and the caller owns the number."""
    r, w = pipe()
    number = r.take()
    assert r.closed
    assert is_open(number)
    os.close(number)
    w.close()


@pytest.mark.parametrize("use", [Fd.fileno, Fd.take, Fd.dup, Fd.socket, lambda fd: fd.open(), lambda fd: fd.kind])
def test_every_use_of_an_empty_fd_raises_closed(use):
    """Closed is a ValueError, as the built-in file objects raise it."""
    r, w = pipe()
    r.close()
    w.close()
    with pytest.raises(Closed) as caught:
        use(r)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("bad", [-1, True, "3", 3.0, None])
def test_an_fd_is_made_of_a_non_negative_int_only(bad):
    """A refused Fd does not warn when it is garbage-collected."""
    with pytest.raises(NotADescriptor):
        Fd(bad)


def test_a_forgotten_fd_warns_and_closes():
    """An Fd that is garbage-collected closes its descriptor, with a ResourceWarning that names it."""
    r, w = pipe()
    number = r.fileno()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del r
        gc.collect()
    assert [str(item.message) for item in caught] == [
        f"<Fd {number}> was forgotten, and is closed now: call close() or take()"
    ]
    assert not is_open(number)
    w.close()


def test_a_duplicate_has_the_same_open_file_and_is_close_on_exec():
    """The two descriptors have one offset."""
    with Fd.open(__file__) as one, one.dup() as other:
        os.read(one.fileno(), 10)
        assert os.lseek(other.fileno(), 0, os.SEEK_CUR) == 10
        assert not os.get_inheritable(other.fileno())


def test_open_makes_an_fd_of_a_path_and_a_file_of_an_fd(tmp_path):
    """Fd.open(path) makes an Fd; fd.open(mode) moves the descriptor into a file object."""
    with Fd.open(tmp_path / "a", "w") as out, out.open("w", encoding="utf-8") as file:
        assert out.closed
        file.write("grüße")
    with Fd.open(tmp_path / "a").open("r", encoding="utf-8") as file:
        assert file.read() == "grüße"


@pytest.mark.parametrize(
    ("mode", "readable", "writable"),
    [("r", 1, 0), ("rw", 1, 1), ("r+", 1, 1), ("w", 0, 1), ("a", 0, 1), ("w+", 1, 1)],
)
def test_open_gives_each_mode_its_access(tmp_path, mode, readable, writable):
    """The access is that of the built-in open."""
    (tmp_path / "a").write_bytes(b"x")
    with Fd.open(tmp_path / "a", mode) as fd:
        access = os.O_ACCMODE & fcntl.fcntl(fd.fileno(), fcntl.F_GETFL)
    assert access == {(1, 0): os.O_RDONLY, (0, 1): os.O_WRONLY, (1, 1): os.O_RDWR}[readable, writable]


def test_errors_of_open_are_also_the_built_in_errors(tmp_path):
    """A missing file is NotFound, a FileNotFoundError; an unknown mode is a ValueError."""
    with pytest.raises(NotFound) as caught:
        Fd.open(tmp_path / "none")
    assert isinstance(caught.value, FileNotFoundError)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(ValueError, match="mode 'q'"):
        Fd.open(tmp_path / "none", "q")


def test_an_fd_keeps_its_descriptor_if_it_cannot_become_a_file_object(tmp_path):
    """Python makes no file object of a directory; the Fd still owns the descriptor."""
    with Fd.open(tmp_path) as fd:
        with pytest.raises(OSError):
            fd.open()
        assert is_open(fd.fileno())


@pytest.mark.parametrize("options", [{"encoding": "no-such-encoding"}, {"buffering": 0}, {"mode": "r+b"}])
def test_a_file_object_that_fails_late_leaves_the_descriptor_open_and_owned(options):
    """os.fdopen closes the number when it fails after its first step; the Fd would then close another's number."""
    r, w = pipe()
    with r, w:
        with pytest.raises((LookupError, ValueError)):
            r.open(**options)
        assert is_open(r.fileno())


def test_socket_of_a_number_that_other_code_has_closed_is_a_bad_descriptor():
    """The error is one of fdpass, although the kind cannot be told."""
    r, w = pipe()
    os.close(r.fileno())
    with w, pytest.raises(BadDescriptor, match="not open"):
        r.socket()
    r.take()


def test_kind_of_a_socket_file_that_was_opened_with_o_path_is_socket(tmp_path):
    """The kernel refuses every socket call on it, with EBADF."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
    with Fd(os.open(tmp_path / "s", os.O_PATH)) as fd:
        assert fd.kind == "socket"


def test_socket_keeps_family_type_and_protocol():
    """The protocol must be TCP's number, not 0: asyncio then sets TCP_NODELAY."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with Fd(made.detach()).socket() as sock:
        assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    r, w = pipe()
    with r, w:
        with pytest.raises(OSError, match="pipe"):
            r.socket()
        assert not r.closed


def test_each_kind_of_descriptor_has_its_name(tmp_path):
    r, w = os.pipe()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    (tmp_path / "f").write_bytes(b"")
    numbers = {
        "file": os.open(tmp_path / "f", os.O_RDONLY),
        "dir": os.open(tmp_path, os.O_RDONLY),
        "symlink": os.open("/proc/self/exe", os.O_PATH | os.O_NOFOLLOW),
        "pipe": r,
        "socket": sock.detach(),
        "listener": listener.detach(),
        "memfd": share(b"x").take(),
        "pidfd": os.pidfd_open(os.getpid()),
        "eventfd": os.eventfd(0),
        "char": os.open("/dev/null", os.O_RDONLY),
    }
    os.close(w)
    found = {}
    for number in numbers.values():
        with Fd(number) as fd:
            found[number] = fd.kind
    assert found == {number: kind for kind, number in numbers.items()}
    with select.epoll() as epoll, Fd(os.dup(epoll.fileno())) as fd:
        assert fd.kind == "epoll"


@pytest.mark.parametrize("way", [pickle.dumps, copy.copy, copy.deepcopy])
def test_nothing_that_owns_a_descriptor_is_copied_or_pickled(tmp_path, way):
    """Two owners would close one number twice, and the second time it can be another file's."""
    ours, theirs = Channel.pair()
    r, w = pipe()
    with ours, theirs, r, w, listen(str(tmp_path / "s")) as listener, Message(b"x", [r.dup().take()]) as message:
        for owner in (r, ours, listener, message):
            with pytest.raises(TypeError, match="multiprocessing" if owner is r else "copied or pickled"):
                way(owner)


def test_an_fd_that_was_closed_before_a_queue_sent_it_says_so():
    """A multiprocessing.Queue pickles in a thread, after put() has returned."""
    r, w = pipe()
    r.close()
    with w, pytest.raises(Closed, match="put"):
        reduction.ForkingPickler.dumps(r)


@pytest.mark.parametrize("make", [Fd, lambda number: Message(b"", [number])], ids=["Fd", "Message"])
def test_what_is_forgotten_is_closed_where_warnings_are_errors(make):
    """With -W error the warning is raised, and printed as an exception that was ignored."""
    r, w = pipe()
    number = r.take()
    ignored = []
    with w, warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda event: ignored.append(event.exc_type))
        warnings.simplefilter("error")
        make(number)
        gc.collect()
    assert ignored == [ResourceWarning]
    assert not is_open(number)


def test_a_file_object_owns_its_descriptor_and_takes_no_closefd():
    """With closefd=False neither the file object nor the Fd would own the descriptor."""
    with Fd.open("/dev/null") as fd:
        with pytest.raises(TypeError, match="'closefd': the file object owns"):
            fd.open("rb", closefd=False)
        assert is_open(fd.fileno())


MULTIPROCESSING = """
import multiprocessing, os, sys
from fdpass import Fd

def answer(connection, queue):
    with connection.recv() as fd:
        os.write(fd.fileno(), b"by connection, ")
    with queue.get() as fd:
        os.write(fd.fileno(), b"by queue")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    here, there = context.Pipe()
    queue = context.Queue()
    r, w = map(Fd, os.pipe())
    child = context.Process(target=answer, args=(there, queue))
    child.start()
    here.send(w)
    queue.put(w)
    child.join()
    w.close()
    with r.open("rb") as file:
        print(file.read().decode(), child.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_passes_a_duplicate_of_an_fd(tmp_path, method):
    """Connections and queues lend an Fd: both processes own a descriptor afterwards."""
    script = tmp_path / "script.py"
    script.write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", script, method],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("by connection, by queue 0\n", "")


class Interrupt(Exception):
    """Raised by a signal handler."""


@pytest.fixture
def interrupts():
    """A signal handler raises `Interrupt`, 1 to 40 µs after ``interrupts()``."""

    def interrupt(*_):
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-5))
    signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of an Fd that came, and was never stored
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the handler has raised in __del__
@pytest.mark.parametrize("use", [lambda _: share(b"content"), lambda _: Fd.open("/dev/null"), Fd.dup])
def test_a_signal_handler_that_raises_leaks_no_descriptor(interrupts, use):
    null = Fd.open("/dev/null")
    gc.collect()
    before = os.listdir("/proc/self/fd")
    for _ in range(3000):
        with contextlib.suppress(Interrupt):
            interrupts()
            use(null).close()
            time.sleep(0.0002)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    null.close()
