"""A descriptor out of another process, and each way in which that fails."""

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
    """A process that holds a pipe's writing end as 1 and ends with its standard input."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_it_is_the_same_open_file(child):
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


def test_our_own_can_be_grabbed_and_shares_its_offset(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    with Fd.open(tmp_path / "f") as own, grab(os.getpid(), own.fileno()) as other:
        assert same_file(own, other)
        assert os.read(own.fileno(), 5) + os.read(other.fileno(), 5) == b"0123456789"


def test_a_number_that_is_not_open_there(child):
    with pytest.raises(BadDescriptor, match=f"process {child.pid} has no descriptor 999.*inspect"):
        grab(child.pid, 999)


def test_a_process_that_does_not_exist(child):
    child.kill()
    child.wait()
    with pytest.raises(NoSuchProcess, match=str(child.pid)):
        grab(child.pid, 0)


def test_a_process_that_has_ended_and_was_not_waited_for(child):
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NoSuchProcess, match="has ended"):
        grab(child.pid, 0)


def test_a_thread_is_no_process():
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
def test_numbers_out_of_range_reach_no_system_call(pid, fd):
    """2**32 would come out of a C int as 0: as somebody's standard input."""
    with pytest.raises(InvalidMessage):
        grab(pid, fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become another user")
def test_what_may_not_be_traced_is_explained(child):
    program = (
        "import fdpass, os, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: fdpass.grab(int(sys.argv[1]), 0)\n"
        "except fdpass.NotPermitted as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(child.pid)], capture_output=True, text=True, timeout=60
    )
    assert "CAP_SYS_PTRACE" in done.stdout, done.stderr
    assert "ptrace_scope" in done.stdout


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EPERM, NotPermitted, "root"),
        (errno.ENOSYS, CallFailed, "needs Linux 5.6"),
        (errno.ESRCH, NoSuchProcess, "ended"),
        (errno.EBADF, BadDescriptor, "no descriptor 0"),
        (errno.EMFILE, CallFailed, "Too many open files"),
    ],
)
def test_each_error_says_what_to_do_and_leaves_nothing_open(monkeypatch, number, kind, words):
    def failing(_pidfd, _fd):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, "_pidfd_getfd", failing)
    with pytest.raises(kind, match=words) as caught:
        grab(os.getpid(), 0)
    assert caught.value.errno == number
    assert isinstance(caught.value.__cause__, OSError)


def test_a_kernel_without_pidfds_is_told(monkeypatch):
    def old(_pid):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", old)
    with pytest.raises(CallFailed, match=r"needs Linux 5\.6"):
        grab(os.getpid(), 0)


def test_the_process_is_not_stopped_nor_told(child):
    grab(child.pid, 0).close()
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
