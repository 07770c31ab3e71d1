"""The file of a listening socket: its mode, and when it is replaced, removed or left alone."""

import errno
import fcntl
import os
import re
import select
import socket
import stat
import subprocess
import sys

import pytest

from fdpass import (
    AddressInUse,
    CallFailed,
    InvalidMessage,
    Listener,
    NotFound,
    NotPermitted,
    connect,
    listen,
)
from fdpass import _sockets as sockets

from ._channels import exchange


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_socket_file_has_the_mode_despite_the_umask(path, mode, umask):
    before = os.umask(umask)
    try:
        with listen(path, mode=mode):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
    finally:
        os.umask(before)


def test_the_socket_file_never_has_more_permissions_than_mode(path, monkeypatch):
    seen = []
    real = sockets._set_mode

    def watched(path, mode):
        seen.append(stat.S_IMODE(os.stat(path).st_mode))
        real(path, mode)

    monkeypatch.setattr(sockets, "_set_mode", watched)
    before = os.umask(0)
    try:
        listen(path, mode=0o600).close()
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_without_proc_the_umask_has_to_permit_the_mode(path, monkeypatch):
    """As in a chroot. The error does not say that the address is missing, and no file stays."""

    def missing(_path, _mode):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "chmod", missing)
    before = os.umask(0o022)
    try:
        with listen(path, mode=0o644) as listener:
            assert exchange(listener) == b"answer"
        with pytest.raises(CallFailed, match="/proc is missing") as caught:
            listen(path, mode=0o666)
    finally:
        os.umask(before)
    assert not isinstance(caught.value, NotFound)
    assert not os.path.exists(path)


def test_a_decimal_mode_is_refused(path):
    with pytest.raises(InvalidMessage, match="octal"):
        listen(path, mode=600)


def test_a_stale_socket_file_is_replaced(stale):
    before = os.stat(stale).st_ctime_ns
    with listen(stale) as listener:
        assert os.stat(stale).st_ctime_ns != before
        assert exchange(listener) == b"answer"


@pytest.mark.parametrize("other", ["seqpacket", "stream"])
def test_the_file_of_a_listening_socket_is_not_replaced_and_its_backlog_untouched(path, other):
    with listen(path) as listener:
        with pytest.raises(AddressInUse, match="another process listens"):
            listen(path, type=other)
        assert select.select([listener], [], [], 0)[0] == []
        assert exchange(listener) == b"answer"


def test_the_file_of_a_socket_before_listen_is_not_replaced(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        with pytest.raises(AddressInUse):
            listen(path)
        assert os.path.exists(path)


@pytest.mark.parametrize("connected", [False, True])
def test_the_file_of_a_datagram_socket_is_not_replaced(path, tmp_path, connected):
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far,
    ):
        sock.bind(path)
        far.bind(str(tmp_path / "far"))
        if connected:
            sock.connect(str(tmp_path / "far"))
        with pytest.raises(AddressInUse):
            listen(path)


def test_the_file_of_a_listener_with_a_full_backlog_is_not_replaced(path):
    with listen(path, backlog=0), connect(path), pytest.raises(AddressInUse):
        listen(path)


@pytest.mark.parametrize("kind", ["file", "directory", "symlink to a socket", "dangling symlink"])
def test_a_file_that_is_no_socket_is_never_removed(tmp_path, path, kind):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "real"))
    if kind == "file":
        (tmp_path / "socket").write_text("precious")
    elif kind == "directory":
        os.mkdir(path)
    else:
        os.symlink("real" if kind == "symlink to a socket" else "nowhere", path)
    before = os.lstat(path)
    with pytest.raises(AddressInUse, match="no socket"):
        listen(path)
    assert os.lstat(path).st_ino == before.st_ino
    assert stat.S_IFMT(os.lstat(path).st_mode) == stat.S_IFMT(before.st_mode)


def test_a_missing_directory_is_named_in_the_error(tmp_path):
    with pytest.raises(NotFound, match=re.escape(str(tmp_path))):
        listen(tmp_path / "missing" / "socket")


def test_a_failure_after_bind_removes_the_file(path, monkeypatch):
    def failing(_path, _mode):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(sockets, "_set_mode", failing)
    with pytest.raises(NotPermitted):
        listen(path)
    assert not os.path.exists(path)


def test_one_of_many_servers_that_start_at_once_listens(stale):
    """Each process waits for a byte, tries to listen, and prints the outcome; a listener stays open."""
    program = (
        "import sys, fdpass\n"
        "sys.stdin.read(1)\n"
        "try: listener = fdpass.listen(sys.argv[1])\n"
        "except fdpass.AddressInUse: print('in use', flush=True)\n"
        "else: print('listening', flush=True)\n"
        "sys.stdin.read()\n"
        "if 'listener' in globals(): listener.close()\n"
    )
    servers = [
        subprocess.Popen([sys.executable, "-c", program, stale], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(6)
    ]
    try:
        for server in servers:
            server.stdin.write(b"x")
            server.stdin.flush()
        assert sorted(server.stdout.readline() for server in servers) == [b"in use\n"] * 5 + [b"listening\n"]
    finally:
        for server in servers:
            server.communicate()
    assert not os.path.exists(stale)


def test_the_directory_is_locked_while_a_stale_file_is_replaced(stale, monkeypatch):
    seen = []
    real = sockets.os.unlink

    def watched(path):
        program = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run([sys.executable, "-c", program, os.path.dirname(path)], stderr=subprocess.PIPE)
        seen.append(b"BlockingIOError" in done.stderr)
        real(path)

    monkeypatch.setattr(sockets.os, "unlink", watched)
    with listen(stale):
        monkeypatch.undo()
    assert seen == [True]


@pytest.fixture
def locked(path):
    """The folder of the socket file, locked by a process that may read it."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    yield
    os.close(folder)


def test_where_there_is_no_file_no_lock_is_waited_for(path, locked, monkeypatch):
    """bind(2) decides between servers that start at the same time."""
    monkeypatch.setattr(sockets, "_LOCK_MAX", 1000)
    with listen(path) as listener:
        assert exchange(listener) == b"answer"


def test_a_lock_that_is_not_released_does_not_keep_a_server_from_listening(stale, locked, monkeypatch):
    """Every process that may read the folder can hold the lock for ever."""
    monkeypatch.setattr(sockets, "_LOCK_MAX", 0.05)
    with listen(stale) as listener:
        assert exchange(listener) == b"answer"


def test_a_process_that_was_forked_meanwhile_does_not_keep_the_lock(stale):
    """It has a copy of the descriptor, and close(2) alone releases nothing."""
    copies = []
    real = os.open

    def copied(*arguments):
        number = real(*arguments)
        copies.append(os.dup(number))
        return number

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sockets.os, "open", copied)
        listen(stale).close()
    folder = real(os.path.dirname(stale), os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for number in (folder, *copies):
        os.close(number)


@pytest.mark.skipif(os.geteuid() != 0, reason="root may read every folder, so the test becomes another user")
@pytest.mark.parametrize("file", ["none", "stale"])
def test_a_folder_that_may_not_be_listed_is_enough(tmp_path, file):
    """To make files in it takes w and x, no r."""
    os.chmod(tmp_path, 0o300)
    os.chown(tmp_path, 65534, 65534)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.chdir(tmp_path)  # its parent folders are root's alone
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            if file == "stale":
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.bind("socket")
            with listen("socket"):
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_close_removes_the_file_and_a_second_close_does_nothing(path):
    listener = listen(path)
    listener.close()
    assert not os.path.exists(path)
    assert listener.closed
    assert listener.fileno() == -1
    with listen(path):
        listener.close()
        assert os.path.exists(path)


def test_close_leaves_the_file_of_another_listener(path):
    listener = listen(path)
    os.unlink(path)
    with listen(path) as other:
        listener.close()
        assert exchange(other) == b"answer"


def test_close_in_a_forked_child_leaves_the_file(path):
    with listen(path) as listener:
        pid = os.fork()
        if pid == 0:
            listener.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert exchange(listener) == b"answer"


def test_a_listener_that_did_not_bind_its_socket_leaves_the_file(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        sock.listen()
        with Listener(sock.dup()) as listener:
            assert exchange(listener) == b"answer"
        assert os.path.exists(path)
