"""``fdpass grab``: a descriptor of a running process is printed, or given to a command."""

import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "fdpass", "grab"]
# If Yama restricts ptrace(2) to children, a process can admit all processes of its user: PR_SET_PTRACER.
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
    """A process that has ``fd`` open under the same number, and does nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[fd]
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


@pytest.fixture
def holder(tmp_path):
    """A process that has a deleted file open, with the offset at byte 5; and the file."""
    with open(tmp_path / "deleted", "w+b", buffering=0) as file:
        file.write(b"some text\n")
        file.seek(5)
        (tmp_path / "deleted").unlink()
        with holding(file.fileno()) as pid:
            yield pid, file


def test_a_deleted_file_is_printed_whole_without_moving_the_offset(holder):
    """The other process uses the same offset."""
    pid, file = holder
    done = grab(pid, file.fileno())
    assert (done.returncode, done.stdout, done.stderr) == (0, "some text\n", "")
    assert file.tell() == 5


def test_a_command_gets_the_descriptor_by_socket_activation(holder):
    """It is descriptor 3, at its present offset."""
    pid, file = holder
    script = "echo $LISTEN_FDS $LISTEN_FDNAMES $1; [ $$ = $LISTEN_PID ] && cat <&3"
    done = grab(pid, file.fileno(), "--", "sh", "-c", script, "sh", "{}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 file /dev/fd/3\ntext\n", "")


def test_with_stdin_a_command_gets_the_descriptor_as_standard_input(holder):
    pid, file = holder
    done = grab(pid, file.fileno(), "--stdin", "--", "cat")
    assert (done.returncode, done.stdout, done.stderr) == (0, "text\n", "")


def test_a_pipe_is_printed_to_its_end():
    reading, writing = os.pipe()
    with holding(reading) as pid:
        os.write(writing, b"in the pipe")
        os.close(writing)
        done = grab(pid, reading)
    os.close(reading)
    assert (done.returncode, done.stdout) == (0, "in the pipe")


def test_a_non_blocking_socket_is_printed_and_stays_non_blocking():
    """O_NONBLOCK belongs to the open file, so to the other process, too."""
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


def test_a_deleted_file_that_is_open_for_writing_only_is_printed(tmp_path):
    """A log is; it is opened anew through /proc."""
    with open(tmp_path / "log", "w") as file:
        file.write("some lines\n")
        file.flush()
        (tmp_path / "log").unlink()
        with holding(file.fileno()) as pid:
            done = grab(pid, file.fileno())
            assert (done.returncode, done.stdout, done.stderr) == (0, "some lines\n", "")
        assert file.tell() == 11


def test_the_writing_end_of_a_pipe_cannot_be_printed():
    """Opening it anew would take bytes from the pipe's reader."""
    reading, writing = os.pipe()
    with holding(writing) as pid:
        done = grab(pid, writing)
    os.close(reading)
    os.close(writing)
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot read this descriptor (pipe): it is not open for reading" in done.stderr


def test_a_file_is_not_appended_to_itself(tmp_path):
    """The copy would grow without end."""
    with open(tmp_path / "kept", "w+") as file, holding(file.fileno()) as pid:
        file.write("text\n")
        file.flush()
        with open(tmp_path / "kept", "a") as output:
            done = subprocess.run(
                [*COMMAND, str(pid), str(file.fileno())], stdout=output, stderr=subprocess.PIPE, timeout=60
            )
    assert done.returncode == 1
    assert b"standard output" in done.stderr
    assert (tmp_path / "kept").read_text() == "text\n"


def test_a_file_that_grows_while_it_is_printed_is_printed_up_to_its_size_at_the_start(tmp_path):
    """`fdpass grab PID FD | tee -a file` ends."""
    from fdpass import Fd
    from fdpass._cli import common

    (tmp_path / "growing").write_text("text\n")
    written = []

    def write(data):
        written.append(bytes(data))
        with open(tmp_path / "growing", "ab") as file:
            file.write(data)
        return len(data)

    with pytest.MonkeyPatch.context() as patch, Fd.open(tmp_path / "growing") as fd:
        patch.setattr(common, "write", write)
        common.copy_out(fd, from_start=True)
    assert written == [b"text\n"]


def test_a_number_that_is_not_open_is_an_error_of_one_sentence(holder):
    pid, _ = holder
    done = grab(pid, 999)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fdpass grab: ")
    assert str(pid) in done.stderr
    assert "999" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_process_that_has_ended_is_an_error_of_one_sentence():
    child = subprocess.Popen(["true"])
    child.wait()
    done = grab(child.pid, 0)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(child.pid) in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("verb", ["grab", "inspect"])
def test_another_users_process_is_an_error_of_one_sentence(verb):
    reading, writing = os.pipe()
    target = os.getpid()
    child = os.fork()  # without exec: another user may not be able to read this Python
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


def test_a_signal_that_kills_the_command_kills_fdpass_grab(holder):
    """The process has become the command by exec."""
    pid, file = holder
    assert grab(pid, file.fileno(), "--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
