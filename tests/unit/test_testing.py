"""`fdpass.testing`: it finds and names leaks, and injects faults where the script says."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from fdpass import Fd
from fdpass.testing import (
    EVERY,
    FaultySocket,
    after,
    before,
    call_fails,
    children,
    fails,
    full_table,
    open_fds,
    same_file,
    short,
)

pytest_plugins = ["pytester"]


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    wrapped = FaultySocket.wrap(left, {})
    with wrapped, right:
        yield wrapped, right


def run_suite(pytester, body):
    pytester.makeconftest('pytest_plugins = ["fdpass.testing.plugin"]')
    pytester.makepyfile(body)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider")


def test_open_fds_names_kind_and_target(tmp_path):
    path = tmp_path / "file"
    with Fd.open(path, "w") as fd:
        assert open_fds()[fd.fileno()] == f"file {path}"
        number = fd.fileno()
    assert number not in open_fds()


def test_open_fds_works_with_a_full_table():
    left, right = socket.socketpair()
    with left, right:
        listing = os.listdir("/proc/self/fd")
        with full_table(free=1):  # the one slot is for reading the directory
            found = open_fds()
        assert found[left.fileno()].startswith("socket socket:[")
        assert len(found) == len(listing) - 1


def test_a_leaked_descriptor_fails_the_test(pytester):
    """The failure names number, kind and target."""
    result = run_suite(
        pytester,
        """
        import os, pathlib

        def test_leaks(no_leaks, tmp_path):
            fd = os.open(tmp_path / "kept", os.O_CREAT)
            os.dup2(fd, 77)
            os.close(fd)

        def test_clean(no_leaks, tmp_path):
            os.close(os.open(tmp_path / "closed", os.O_CREAT))
        """,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the test left behind:*", "*descriptor 77: file */kept*"])


def test_a_number_that_refers_to_another_file_is_a_leak(pytester):
    """It is found, although the number of descriptors is the same."""
    result = run_suite(
        pytester,
        """
        import os, pytest

        @pytest.fixture(scope="module")
        def number():
            return os.dup(0)

        def test_leaks(number, no_leaks):
            os.close(number)
            reader, writer = os.pipe()
            assert reader == number
            os.close(writer)
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*descriptor *: pipe pipe:*"])


def test_a_child_that_is_left_behind_fails_the_test(pytester):
    result = run_suite(
        pytester,
        """
        import os

        def test_leaks(no_leaks):
            if os.fork() == 0:
                os._exit(0)
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*child process *"])


def test_children_are_listed_until_waited_for():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with child:
        assert "running" in children()[child.pid]
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert "not waited for" in children()[child.pid]
    assert child.pid not in children()


def test_helpers_of_multiprocessing_are_no_leak(pytester):
    result = run_suite(
        pytester,
        """
        import multiprocessing

        def test_uses_a_lock(no_leaks):
            lock = multiprocessing.get_context("spawn").Lock()
            with lock:
                pass
        """,
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("with_kcmp", [True, False])
def test_same_file_compares_open_files(monkeypatch, with_kcmp):
    """By kcmp(2), and without it by inode and SO_COOKIE."""
    if not with_kcmp:
        monkeypatch.setattr("fdpass.testing._leaks._KCMP", 100_000)
    left, right = socket.socketpair()
    with left, right, left.dup() as copy, Fd(os.memfd_create("a")) as file:
        assert same_file(left, copy)
        assert same_file(left.fileno(), copy)
        assert not same_file(left, right)
        assert not same_file(left, file)
    with pytest.raises(OSError, match="Bad file descriptor"):
        same_file(file_number := os.dup(0), 100_000)
    os.close(file_number)


def test_same_file_tells_two_openings_apart(tmp_path):
    path = tmp_path / "file"
    with Fd.open(path, "w") as one, Fd.open(path) as other:
        assert not same_file(one, other)


def test_a_script_fails_one_call(pair):
    left, right = pair
    left.script = {("sendmsg", 2): fails(errno.ENOBUFS)}
    assert left.sendmsg([b"a"]) == 1
    with pytest.raises(OSError, match="buffer space") as caught:
        left.sendmsg([b"b"])
    assert caught.value.errno == errno.ENOBUFS
    assert left.sendmsg([b"c"]) == 1
    assert right.recv(10) == b"ac"
    assert left.calls["sendmsg"] == 3


def test_a_script_fails_every_call(pair):
    left, _ = pair
    left.script = {("recvmsg", EVERY): fails(errno.EINTR)}
    with pytest.raises(InterruptedError):
        left.recvmsg(1)


def test_a_short_write_sends_all_descriptors(pair):
    left, right = pair
    left.script = {("sendmsg", 1): short(3)}
    assert left.sendmsg([b"he", b"llo"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"\0\0\0\0")]) == 3
    data, fds, *_ = socket.recv_fds(right, 10, 1)
    assert (data, len(fds)) == (b"hel", 1)
    os.close(fds[0])


def test_a_short_read_receives_a_part(pair):
    left, right = pair
    left.script = {("recvmsg", EVERY): short(2)}
    right.sendall(b"hello")
    assert [left.recvmsg(10)[0] for _ in range(3)] == [b"he", b"ll", b"o"]


def test_short_is_refused_on_packet_sockets():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with FaultySocket.wrap(left, {("sendmsg", 1): short(3)}) as wrapped, right:
        with pytest.raises(ValueError, match="only a stream"):
            wrapped.sendmsg([b"hello"])


def test_before_and_after_act_around_the_call(pair):
    left, right = pair
    left.script = {("sendmsg", 1): before(lambda: right.sendall(b"first")), ("sendmsg", 2): after(right.close)}
    left.sendmsg([b"x"])
    assert left.recv(10) == b"first"
    assert left.sendmsg([b"x"]) == 1
    assert right.fileno() == -1


def test_wrap_moves_the_descriptor_and_the_timeout():
    left, right = socket.socketpair()
    left.settimeout(5)
    with FaultySocket.wrap(left, {}) as wrapped, right:
        assert left.fileno() == -1
        assert wrapped.gettimeout() == 5
        assert wrapped.type == socket.SOCK_STREAM


def test_call_fails_makes_exactly_one_call_fail():
    with call_fails(os, "memfd_create", errno.ENFILE, at=2) as calls:
        os.close(os.memfd_create("a"))
        with pytest.raises(OSError, match="Too many open files in system"):
            os.memfd_create("b")
        os.close(os.memfd_create("c"))
    assert calls["memfd_create"] == 3
    assert not hasattr(os.memfd_create, "__wrapped__")
    os.close(os.memfd_create("d"))


@pytest.mark.parametrize("free", [0, 1, 3])
def test_full_table_leaves_the_given_number_of_slots(free):
    made = []
    with full_table(free):
        with pytest.raises(OSError, match="Too many open files"):
            for _ in range(free + 1):
                made.append(os.dup(0))
        assert len(made) == free
    made.append(os.dup(0))
    for fd in made:
        os.close(fd)


def test_full_table_can_be_ended_before_the_end_of_the_block():
    with full_table() as make_room:
        make_room()
        os.close(os.dup(0))
