"""Orphans that the kernel gives to this process are reaped; what others wait for is left to them.

Each test runs in a process of its own, which becomes a subreaper.
"""

import subprocess
import sys
import textwrap

import pytest

START = """
import ctypes, os, select, subprocess, sys
from fdpass._supervision.orphans import Orphans, _children

def subreaper():
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER

def child(code):
    return subprocess.Popen([sys.executable, "-c", code])

def wait_ended(pid):
    '''Wait until a process has ended, without reaping it.'''
    pidfd = os.pidfd_open(pid)
    select.select([pidfd], [], [])
    os.close(pidfd)

def orphan():
    '''A process that has ended, and whose parent has ended before it; returns its number.'''
    read, write = os.pipe()
    code = f"import os; os.fork() or (os.read({read}, 1), os._exit(0)); os._exit(0)"
    parent = subprocess.Popen([sys.executable, "-c", code], pass_fds=[read])
    before = _children()
    assert parent.wait() == 0
    (found,) = _children() - before
    os.close(write)
    wait_ended(found)
    os.close(read)
    return found
"""


@pytest.fixture
def run():
    """Run this code, in a process of its own."""

    def run(code):
        done = subprocess.run(
            [sys.executable, "-c", START + textwrap.dedent(code)], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")

    return run


def test_orphans_are_reaped(run):
    run("""
        subreaper()
        orphans = Orphans(set)
        orphans.reap()  # without children
        gone = {orphan() for _ in range(3)}
        assert gone <= _children()
        orphans.reap()
        assert not _children()
    """)


def test_the_status_of_a_worker_is_left_to_the_pool(run):
    run("""
        subreaper()
        workers = set()
        orphans = Orphans(lambda: workers)
        worker = child("import os; os._exit(7)")
        workers.add(worker.pid)
        wait_ended(worker.pid)
        orphan()
        orphans.reap()
        assert worker.wait() == 7
        orphans.reap()  # what was behind the worker
        assert not _children()
    """)


def test_the_status_of_the_programs_own_child_is_left_to_the_program(run):
    run("""
        subreaper()
        own = child("import os; os._exit(7)")
        orphans = Orphans(set)
        wait_ended(own.pid)
        orphans.reap()
        assert own.wait() == 7
    """)


def test_an_ended_child_of_the_program_hides_no_orphan(run):
    run("""
        subreaper()
        own = child("import os; os._exit(7)")
        workers = set()
        orphans = Orphans(lambda: workers)
        wait_ended(own.pid)
        worker = child("import os; os._exit(8)")
        workers.add(worker.pid)
        wait_ended(worker.pid)
        gone = {orphan() for _ in range(3)}
        orphans.reap()
        assert not gone & _children()
        assert (own.wait(), worker.wait()) == (7, 8)
    """)


def test_a_process_that_gets_no_orphans_reaps_nothing(run):
    run("""
        orphans = Orphans(set)
        own = child("import os; os._exit(7)")
        wait_ended(own.pid)
        orphans.reap()
        assert own.wait() == 7
    """)


PROGRAM_THAT_KILLS = """
import os, signal, sys, time
from fdpass._supervision import orphans

orphans.become_subreaper()
own = os.fork()
if own == 0:
    signal.pause()
found = orphans.Orphans(lambda: (own,))
reading, writing = os.pipe()
for _ in range(3):  # each has a child that has a child
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            os.write(writing, b"x")
            while True:
                signal.pause()
        os._exit(0)
    os.waitpid(middle, 0)
for _ in range(6):
    os.read(reading, 1)
assert len(found.adopted()) == 3
found.signal(signal.SIGCONT)
found.kill()
assert found.adopted() == set()
assert orphans._children() == {own}
os.kill(own, 9)
os.waitpid(own, 0)
print("alone")
"""


def test_all_descendants_of_adopted_children_are_killed():
    """Also those that became children of this process only when their parents were killed."""
    done = subprocess.run([sys.executable, "-c", PROGRAM_THAT_KILLS], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("alone\n", "")


def test_a_process_ends_with_its_parent():
    """Also if the parent ended before the process asked for it."""
    program = (
        "import os, signal, sys\n"
        "from fdpass._supervision.orphans import end_with_parent\n"
        "end_with_parent(int(sys.argv[1]), signal.SIGTERM)\n"
        "signal.pause()\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(2**22)], timeout=60)
    assert done.returncode == -15
