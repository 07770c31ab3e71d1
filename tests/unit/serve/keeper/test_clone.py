"""`clone`: which things parent and child share, and which they do not. Every child ends with `os._exit`."""

import contextlib
import ctypes
import errno
import os
import platform
import signal
import sys
import threading
from unittest import mock

import pytest

from fdpass.errors import CallFailed
from fdpass.serve.keeper import clone as module
from fdpass.serve.keeper.clone import become_subreaper, clone, signal_at_parents_death, why_not
from fdpass.testing import full_table

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")


def run_in_clone(act, **options):
    """Let a clone do something; returns its exit code: 0, or 1 if ``act`` raised an exception."""
    pid = clone(**options)
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_open(fd):
    with contextlib.suppress(OSError):
        os.fstat(fd)
        return True
    return False


def test_a_descriptor_that_the_child_opens_is_the_parents_too():
    """With the number that the child got."""
    read_end, write_end = os.pipe()

    def act():
        fd = os.open(__file__, os.O_RDONLY)
        os.write(write_end, b"%d" % fd)

    assert run_in_clone(act) == 0
    fd = int(os.read(read_end, 10))
    assert os.path.samestat(os.fstat(fd), os.stat(__file__))
    for each in (read_end, write_end, fd):
        os.close(each)


def test_it_needs_no_descriptor():
    with full_table():
        assert run_in_clone(lambda: None) == 0


def test_a_descriptor_that_the_child_closes_is_closed_in_the_parent():
    ends = os.pipe()
    assert run_in_clone(lambda: [os.close(end) for end in ends]) == 0
    assert not any(map(is_open, ends))


def test_descriptors_outlive_the_child_even_if_it_is_killed():
    read_end, write_end = os.pipe()
    pid = clone()
    if pid == 0:
        fd = os.open(__file__, os.O_RDONLY)
        os.write(write_end, b"%d" % fd)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    fd = int(os.read(read_end, 10))
    assert is_open(fd)
    for each in (read_end, write_end, fd):
        os.close(each)


def test_memory_is_copied():
    values = [1]
    assert run_in_clone(lambda: values.append(2)) == 0
    assert values == [1]


def test_the_working_folder_and_handlers_are_not_shared():
    """As after fork(2)."""
    folder, handler = os.getcwd(), signal.getsignal(signal.SIGUSR1)

    def act():
        os.chdir("/")
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    assert run_in_clone(act) == 0
    assert (os.getcwd(), signal.getsignal(signal.SIGUSR1)) == (folder, handler)


def test_a_program_that_the_child_runs_gets_a_copy_of_the_table():
    """What exec(2) closes is open in the parent."""
    fd = os.open(__file__, os.O_RDONLY | os.O_CLOEXEC)
    status = run_in_clone(
        lambda: os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", f"import os; os.fstat({fd})"])
    )
    assert status == 1
    assert is_open(fd)
    os.close(fd)


def test_the_child_has_one_thread_that_knows_its_own_number():
    """raise(3) uses the number that the C library keeps; `threading` that of the interpreter."""

    def act():
        assert threading.get_native_id() == os.getpid()
        assert threading.current_thread() is threading.main_thread()
        signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
        signal.raise_signal(signal.SIGUSR1)

    assert run_in_clone(act) == 7


def test_the_child_can_start_threads_and_programs():
    """The interpreter's locks are as after os.fork."""

    def act():
        found = []
        thread = threading.Thread(target=lambda: found.append(os.spawnv(os.P_WAIT, "/bin/true", ["true"])))
        thread.start()
        thread.join(30)
        assert found == [0]

    assert run_in_clone(act) == 0


def test_functions_of_register_at_fork_run():
    """Once in each of the two processes."""
    code = (
        "import os\n"
        "from fdpass.serve.keeper.clone import clone\n"
        "ran = []\n"
        "for name in ('before', 'after_in_parent', 'after_in_child'):\n"
        "    os.register_at_fork(**{name: lambda name=name: ran.append(name)})\n"
        "pid = clone()\n"
        "if pid == 0:\n"
        "    os._exit(ran != ['before', 'after_in_child'])\n"
        "assert ran == ['before', 'after_in_parent'], ran\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    assert os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-c", code], os.environ) == 0


def test_what_is_printed_before_is_printed_once():
    code = (
        "import os\n"
        "from fdpass.serve.keeper.clone import clone\n"
        "print('x')\n"
        "pid = clone()\n"
        "os.write(1, b'c\\n')\n"
        "if pid == 0:\n"
        "    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    read_end, write_end = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, write_end, 1)]
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ, file_actions=actions)
    os.close(write_end)
    with open(read_end) as file:
        assert sorted(file.read().split()) == ["c", "c", "x"]
    assert os.waitpid(pid, 0)[1] == 0


def test_a_sibling_is_the_child_of_the_callers_parent():
    read_end, write_end = os.pipe()

    def act():
        pid = clone(sibling=True)
        if pid == 0:
            os._exit(5)
        os.write(write_end, b"%d" % pid)

    assert run_in_clone(act) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(int(os.read(read_end, 10)), 0)[1]) == 5
    os.close(read_end)
    os.close(write_end)


def test_a_process_with_threads_is_not_cloned():
    """The child would have locks that nobody releases."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="one thread"):
            clone()
    finally:
        over.set()
        thread.join()


def test_an_unknown_machine_is_refused(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(RuntimeError, match="pdp11"):
        clone()
    assert "pdp11" in why_not()


def test_a_32_bit_program_is_refused(monkeypatch):
    """Its system calls have other numbers, and uname(2) names the kernel's machine."""
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert "not known" in why_not()


def test_a_filter_that_forbids_the_call_is_told(monkeypatch):
    def refuse(*_):
        ctypes.set_errno(errno.EPERM)
        return -1

    monkeypatch.setattr(module, "_libc", mock.Mock(syscall=refuse, prctl=module._libc.prctl))
    with pytest.raises(CallFailed, match="cannot clone this process"):
        clone()
    assert "cannot clone this process" in why_not()


def test_a_kernel_that_copies_the_table_is_told(monkeypatch):
    monkeypatch.setattr(module, "_CLONE_FILES", 0)
    assert why_not() == "the kernel does not share the table of descriptors"


def test_orphans_come_to_a_subreaper():
    """And the signal of their parent's death comes, if they have asked for it."""
    code = (
        "import os, signal\n"
        "from fdpass.serve.keeper.clone import *\n"
        "become_subreaper()\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "        parent = os.getppid()\n"
        "        signal_at_parents_death(signal.SIGUSR1)\n"
        "        os.kill(parent, signal.SIGKILL)\n"
        "        signal.sigwait({signal.SIGUSR1})\n"
        "        os._exit(3)\n"
        "    signal.pause()\n"
        "statuses = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2))\n"
        "raise SystemExit(statuses != [-9, 3])\n"
    )
    assert callable(become_subreaper)
    assert callable(signal_at_parents_death)
    assert os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-c", code], os.environ) == 0
