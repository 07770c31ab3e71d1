"""Children: what they inherit, how they are started, signalled and reaped."""

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from fdpass.errors import CallFailed
from fdpass.serve.dispatcher.pool import process
from fdpass.testing import call_fails

# The child reports on itself over its channel, then it waits for the end of the channel.
CHILD = """
import json, os, socket, sys
fds = {}
for number in os.listdir("/proc/self/fd"):
    try:
        fds[number] = os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:  # with which the directory was read
        pass
sock = socket.socket(fileno=int(sys.argv[1]))
report = {"fds": fds, "argv": sys.argv, "pgid": os.getpgid(0), "sid": os.getsid(0), "safe": sys.flags.safe_path}
report |= {"optimize": sys.flags.optimize, "unbuffered": sys.stdout.write_through, "warnings": sys.warnoptions}
report |= {"options": sys._xoptions, "folder": os.getcwd()}
sock.sendall(json.dumps(report).encode() + b"\\n")
sock.setblocking(True)
sock.recv(1)
sys.exit(7)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that a child finds by PYTHONPATH."""
    (tmp_path / "fdpass_test_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "fdpass_test_child"


@pytest.fixture
def pair():
    ends = socket.socketpair()
    for end in ends:
        end.settimeout(60)
    yield ends
    for end in ends:
        end.close()


def read_report(sock):
    with sock.makefile("rb") as file:
        return json.loads(file.readline())


def ended(child):
    return bool(select.select([child.pidfd], [], [], 60)[0])


def test_a_child_inherits_its_channel_and_standard_streams_only(module, pair):
    """A descriptor that this process has made inheritable is not inherited either."""
    extra = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(extra, True)
    child = process.start(module, pair[1])
    os.close(extra)
    found = read_report(pair[0])
    number = pair[1].fileno()
    assert found["fds"].keys() == {"0", "1", "2", str(number)}
    assert found["fds"]["0"] == "/dev/null"
    assert found["argv"][1:] == [str(number)]
    pair[0].send(b"x")
    assert child.reap() == 7


def test_a_child_has_a_process_group_of_its_own_in_our_session(module, pair):
    """So Ctrl-C at the terminal reaches the dispatcher alone, but the end of the terminal session reaches all."""
    child = process.start(module, pair[1])
    found = read_report(pair[0])
    assert found["pgid"] == child.pid
    assert found["sid"] == os.getsid(0)
    pair[0].send(b"x")
    child.reap()


def test_a_child_imports_no_module_of_the_working_directory(module, pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    child = process.start(module, pair[1])
    assert read_report(pair[0])["safe"]
    pair[0].send(b"x")
    child.reap()


def test_a_child_gets_the_flags_of_its_parent_and_its_folder(module, pair, tmp_path):
    """The parent is a program of its own, for the flags of this one are not known."""
    program = f"""if True:
        import os, socket
        from fdpass.serve.dispatcher.pool import process
        with socket.socket(fileno={pair[1].fileno()}) as channel:
            process.start({module!r}, channel, {str(tmp_path)!r}).reap()
    """
    flags = ["-O", "-u", "-W", "error::UserWarning", "-X", "int_max_str_digits=0", "-X", "dev"]
    command = [sys.executable, *flags, "-c", program]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with subprocess.Popen(command, pass_fds=[pair[1].fileno()], env=env):
        found = read_report(pair[0])
        assert found["optimize"] == 1
        assert found["unbuffered"]
        assert "error::UserWarning" in found["warnings"]
        assert found["options"] == {"int_max_str_digits": "0", "dev": True}
        assert found["folder"] == str(tmp_path)
        pair[0].send(b"x")


def test_a_child_sees_the_end_of_its_channel(module, pair):
    """The copy of the child's end that the parent keeps does not hinder that."""
    child = process.start(module, pair[1])
    read_report(pair[0])
    pair[0].close()
    assert ended(child)
    assert child.reap() == 7
    assert child.pidfd.closed


def test_a_signal_reaches_a_child_and_to_a_dead_one_it_is_no_error(module, pair):
    child = process.start(module, pair[1])
    read_report(pair[0])
    child.signal(signal.SIGKILL)
    assert ended(child)
    child.signal(signal.SIGKILL)
    assert child.reap() == -signal.SIGKILL
    assert process.resident_bytes(child.pid) == 0


def test_a_module_that_does_not_exist_ends_with_1(pair, capfd):
    child = process.start("fdpass.no_such_module", pair[1])
    assert child.reap() == 1
    assert "no_such_module" in capfd.readouterr().err


def test_a_program_that_cannot_be_run_is_named(pair, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(CallFailed, match="cannot start /no/such/python"):
        process.start("fdpass", pair[1])


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
def test_a_fork_that_fails_raises_call_failed(pair, number):
    with call_fails(subprocess, "Popen", number), pytest.raises(OSError, match="cannot start") as caught:
        process.start("fdpass", pair[1])
    assert caught.value.errno == number


def test_a_child_that_cannot_be_watched_is_killed_and_reaped(module, pair):
    """The fixture that looks for leaks finds no process."""
    with call_fails(os, "pidfd_open", errno.EMFILE), pytest.raises(CallFailed, match="cannot watch a child"):
        process.start(module, pair[1])


def test_the_resident_memory_of_a_process():
    assert 2**20 < process.resident_bytes(os.getpid()) < 2**36


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exit code 0"),
        (3, "exit code 3"),
        (-9, "killed by SIGKILL"),
        (-6, "killed by SIGABRT"),
        (-99, "killed by signal 99"),
    ],
)
def test_a_status_is_described_in_words(status, words):
    assert process.describe_status(status) == words
