"""`grab`: duplicates a descriptor of another process, and names each cause of a failure."""

import errno
import os
import signal
import subprocess
import sys
import threading

import pytest

from fdpass import BadDescriptor, CallFailed, Fd, InvalidMessage, NoSuchProcess, NotPermitted, grab
from fdpass.testing import same_file

module = sys.modules["fdpass._grab"]


@pytest.fixture
def child():
    """A process with pipes as standard input and output, which ends when its standard input does."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_grabbed_descriptor_is_the_same_open_file(child):
    with grab(child.pid, 0) as fd:
        assert fd.kind == "pipe"
        assert not os.get_inheritable(fd.fileno())
        assert os.fstat(fd.fileno()).st_ino == os.fstat(child.stdin.fileno()).st_ino
    with grab(child.pid, 1) as fd:
        os.write(fd.fileno(), b"from here")
        assert os.read(child.stdout.fileno(), 100) == b"from here"
    child.stdin.write(b"still there")
    child.stdin.flush()
    assert os.read(child.stdout.fileno(), 100) == b"still there"


def test_a_process_can_grab_its_own_descriptor_which_shares_the_offset(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    with Fd.open(tmp_path / "f") as own, grab(os.getpid(), own.fileno()) as other:
        assert same_file(own, other)
        assert os.read(own.fileno(), 5) + os.read(other.fileno(), 5) == b"0123456789"


def test_a_number_that_the_process_has_not_open_is_an_error(child):
    with pytest.raises(BadDescriptor, match=f"process {child.pid} has no descriptor 999.*inspect"):
        grab(child.pid, 999)


def test_a_process_that_does_not_exist_is_an_error(child):
    child.kill()
    child.wait()
    with pytest.raises(NoSuchProcess, match=str(child.pid)):
        grab(child.pid, 0)


def test_a_process_that_has_ended_and_was_not_waited_for_is_an_error(child):
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NoSuchProcess, match="has ended"):
        grab(child.pid, 0)


def test_the_number_of_a_thread_is_an_error():
    asked, done = threading.Event(), threading.Event()
    numbers = []

    def wait():
        numbers.append(threading.get_native_id())
        asked.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    asked.wait()
    try:
        with pytest.raises(CallFailed, match="is a thread"):
            grab(numbers[0], 0)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(("pid", "fd"), [(0, 0), (-1, 0), (1, -1), (2**31, 0), (1, 2**31), (1, 2**32)])
def test_numbers_out_of_bounds_are_refused(pid, fd):
    """As a C int, 2**32 is 0: the standard input of the process."""
    with pytest.raises(InvalidMessage):
        grab(pid, fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become another user")
def test_missing_permission_to_trace_is_explained(child):
    program = (
        "import ctypes, fdpass, os, sys\n"  # ctypes now: the user may not be allowed to read the library
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: fdpass.grab(int(sys.argv[1]), 0)\n"
        "except fdpass.NotPermitted as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(child.pid)], capture_output=True, text=True, timeout=60
    )
    assert "it belongs to user root, and you are user " in done.stdout, done.stderr
    assert "CAP_SYS_PTRACE" in done.stdout


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EPERM, NotPermitted, "CAP_SYS_PTRACE|PR_SET_DUMPABLE"),
        (errno.ENOSYS, CallFailed, "needs Linux 5.6"),
        (errno.ESRCH, NoSuchProcess, "ended"),
        (errno.EBADF, BadDescriptor, "no descriptor 0"),
        (errno.EMFILE, CallFailed, "Too many open files"),
    ],
)
def test_each_error_names_a_remedy_and_leaves_nothing_open(monkeypatch, number, kind, words):
    def failing(_pidfd, _fd):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "_pidfd_getfd", failing)
    with pytest.raises(kind, match=words) as caught:
        grab(os.getpid(), 0)
    assert caught.value.errno == number
    assert isinstance(caught.value.__cause__, OSError)


def test_a_kernel_without_pidfds_is_named_in_the_error(monkeypatch):
    def old(_pid):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", old)
    with pytest.raises(CallFailed, match=r"needs Linux 5\.6"):
        grab(os.getpid(), 0)


def test_the_other_process_runs_on(child):
    grab(child.pid, 0).close()
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
