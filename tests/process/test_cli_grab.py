"""``fdpass grab``: copies a descriptor out of another process, and prints its content or runs a command."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "fdpass", "grab"]
# Where Yama restricts ptrace(2) to children, a process may say that anybody of its user may: PR_SET_PTRACER.
HOLDER = """
import ctypes, sys
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()
"""


def grab(*arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


@contextlib.contextmanager
def holding(fd):
    """A process that holds ``fd`` under the same number, and does nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[fd]
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


@pytest.fixture
def holder(tmp_path):
    """A process that holds a deleted file, read as far as byte 5; and the file."""
    with open(tmp_path / "deleted", "w+b", buffering=0) as file:
        file.write(b"some text\n")
        file.seek(5)
        (tmp_path / "deleted").unlink()
        with holding(file.fileno()) as pid:
            yield pid, file


def test_grab_prints_a_deleted_file(holder):
    """All of it, from its start, and without moving the offset that the other process uses."""
    pid, file = holder
    done = grab(pid, file.fileno())
    assert (done.returncode, done.stdout, done.stderr) == (0, "some text\n", "")
    assert file.tell() == 5


def test_grab_runs_a_command_with_the_descriptor(holder):
    """As descriptor 3, by the convention of socket activation, at the offset where it stands."""
    pid, file = holder
    script = "echo $LISTEN_FDS $LISTEN_FDNAMES $1; [ $$ = $LISTEN_PID ] && cat <&3"
    done = grab(pid, file.fileno(), "--", "sh", "-c", script, "sh", "{}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 file /dev/fd/3\ntext\n", "")


def test_grab_makes_the_descriptor_standard_input(holder):
    """--stdin puts it there."""
    pid, file = holder
    done = grab(pid, file.fileno(), "--stdin", "--", "cat")
    assert (done.returncode, done.stdout, done.stderr) == (0, "text\n", "")


def test_grab_reads_a_pipe_from_its_present_position():
    """A pipe is read from where it stands, to its end."""
    reading, writing = os.pipe()
    with holding(reading) as pid:
        os.write(writing, b"in the pipe")
        os.close(writing)
        done = grab(pid, reading)
    os.close(reading)
    assert (done.returncode, done.stdout) == (0, "in the pipe")


def test_grab_waits_for_a_nonblocking_descriptor():
    """O_NONBLOCK belongs to every holder: it is respected, and left as it is."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs, holding(theirs.fileno()) as pid:
        with subprocess.Popen([*COMMAND, str(pid), str(theirs.fileno())], stdout=subprocess.PIPE) as command:
            ours.sendall(b"one ")
            assert command.stdout.read(4) == b"one "
            ours.sendall(b"two")
            ours.shutdown(socket.SHUT_WR)
            assert command.communicate(timeout=60)[0] == b"two"
        assert command.returncode == 0
        assert not os.get_blocking(theirs.fileno())


def test_grab_of_a_number_that_is_not_open_fails(holder):
    """It says whose descriptor is missing."""
    pid, _ = holder
    done = grab(pid, 999)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fdpass grab: ")
    assert str(pid) in done.stderr
    assert "999" in done.stderr
    assert done.stderr.count("\n") == 1


def test_grab_from_an_ended_process_fails():
    """It says which."""
    child = subprocess.Popen(["true"])
    child.wait()
    done = grab(child.pid, 0)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(child.pid) in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("verb", ["grab", "inspect"])
def test_grab_from_another_users_process_fails(verb):
    """Missing rights are explained in one sentence."""
    reading, writing = os.pipe()
    target = os.getpid()
    child = os.fork()  # not started: another user might not be able to read this Python
    if child == 0:
        try:
            import fdpass._cli.grab
            import fdpass._cli.inspect

            os.dup2(writing, 2)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            sys.stderr = open(2, "w", closefd=False)
            fdpass._cli.main([verb, str(target), *(["0"] if verb == "grab" else [])], prog_name="fdpass")
        except SystemExit as end:
            sys.stderr.flush()
            os._exit(end.code)
        finally:
            os._exit(99)
    os.close(writing)
    with open(reading) as said:
        text = said.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert text.startswith(f"fdpass {verb}: ")
    assert str(target) in text
    assert text.count("\n") == 1


def test_grab_ends_by_the_signal_that_ends_its_command(holder):
    """The process is the command: its end is the command's."""
    pid, file = holder
    assert grab(pid, file.fileno(), "--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
