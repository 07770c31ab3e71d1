"""`listen`, `connect` and `Listener`, blocking: addresses, files, rules, and what goes wrong at each."""

import errno
import itertools
import logging
import os
import re
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
import types

import pytest

import fdpass
from fdpass import (
    AddressInUse,
    Allow,
    CallFailed,
    Channel,
    Closed,
    InvalidMessage,
    Listener,
    NotFound,
    NotListening,
    NotPermitted,
    PeerClosed,
    Timeout,
    connect,
    listen,
)
from fdpass import _sockets as sockets


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


@pytest.fixture
def stale(path):
    """A socket file that nobody listens behind any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        sock.listen()
    return path


def exchanged(listener, **options):
    with connect(listener.address, **options) as client, listener.accept() as server:
        client.send(b"question")
        assert server.recv().data == b"question"
        server.send(b"answer")
        return client.recv().data


# Addresses


@pytest.mark.parametrize("type_", ["seqpacket", "stream"])
def test_channels_meet_at_a_file(path, type_):
    with listen(path, type=type_) as listener:
        assert listener.address == path
        assert exchanged(listener, type=type_) == b"answer"


@pytest.mark.parametrize("first", ["@", "\0"])
def test_channels_meet_at_an_abstract_address(first):
    name = f"fdpass-test-{os.getpid()}"
    with listen(first + name) as listener:
        assert listener.address == "@" + name
        assert exchanged(listener) == b"answer"
        with pytest.raises(AddressInUse):
            listen("@" + name)
    with pytest.raises(NotListening):
        connect("@" + name)


def test_a_path_object_will_do(tmp_path):
    with listen(tmp_path / "s") as listener:
        assert exchanged(listener) == b"answer"


def test_a_relative_path_is_unlinked_after_a_change_of_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listener = listen("s")
    monkeypatch.chdir("/")
    listener.close()
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("call", [listen, connect])
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/tmp/" + "x" * 103, "108 bytes.*at most 107"),
        ("@" + "x" * 107, "at most 107"),
        ("", "empty"),
        ("@", "empty"),
        ("a\0b", "zero byte"),
    ],
)
def test_an_impossible_address_is_explained(call, address, words):
    with pytest.raises(InvalidMessage, match=words):
        call(address)


def test_107_bytes_are_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with listen("x" * 107) as listener:
        assert exchanged(listener) == b"answer"


@pytest.mark.parametrize("call", [listen, connect])
def test_an_unknown_type_is_told(call, path):
    with pytest.raises(InvalidMessage, match="seqpacket"):
        call(path, type="dgram")


# The socket file


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_the_mode_is_exact_whatever_the_umask(path, mode, umask):
    before = os.umask(umask)
    try:
        with listen(path, mode=mode):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
    finally:
        os.umask(before)


def test_the_file_is_never_more_open_than_asked(path, monkeypatch):
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


def test_a_mode_that_forgot_to_be_octal_is_told(path):
    with pytest.raises(InvalidMessage, match="octal"):
        listen(path, mode=600)


def test_a_stale_file_is_replaced(stale):
    before = os.stat(stale).st_ctime_ns
    with listen(stale) as listener:
        assert os.stat(stale).st_ctime_ns != before
        assert exchanged(listener) == b"answer"


@pytest.mark.parametrize("other", ["seqpacket", "stream"])
def test_a_live_one_is_not_and_does_not_notice(path, other):
    with listen(path) as listener:
        with pytest.raises(AddressInUse, match="somebody listens"):
            listen(path, type=other)
        assert select.select([listener], [], [], 0)[0] == []
        assert exchanged(listener) == b"answer"


def test_a_server_between_bind_and_listen_is_alive(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        with pytest.raises(AddressInUse):
            listen(path)
        assert os.path.exists(path)


@pytest.mark.parametrize("connected", [False, True])
def test_a_datagram_server_is_alive(path, tmp_path, connected):
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


def test_a_full_backlog_is_alive(path):
    with listen(path, backlog=0), connect(path), pytest.raises(AddressInUse):
        listen(path)


@pytest.mark.parametrize("kind", ["file", "directory", "symlink to a socket", "dangling symlink"])
def test_what_is_no_socket_is_never_removed(tmp_path, path, kind):
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


def test_a_missing_directory_is_told(tmp_path):
    with pytest.raises(NotFound, match=re.escape(str(tmp_path))):
        listen(tmp_path / "missing" / "socket")


def test_a_failure_after_bind_removes_the_file(path, monkeypatch):
    def failing(_path, _mode):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(sockets, "_set_mode", failing)
    with pytest.raises(NotPermitted):
        listen(path)
    assert not os.path.exists(path)


def test_of_many_servers_that_start_at_once_one_wins(stale):
    """Each of the processes waits for the signal, tries, and says what came; a winner listens until the end."""
    program = (
        "import sys, fdpass\n"
        "sys.stdin.read(1)\n"
        "try: listener = fdpass.listen(sys.argv[1])\n"
        "except fdpass.AddressInUse: print('lost', flush=True)\n"
        "else: print('won', flush=True)\n"
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
        assert sorted(server.stdout.readline() for server in servers) == [b"lost\n"] * 5 + [b"won\n"]
    finally:
        for server in servers:
            server.communicate()
    assert not os.path.exists(stale)


def test_the_directory_is_locked_while_a_stale_file_is_replaced(stale, monkeypatch):
    seen = []
    real = sockets._remove_stale

    def watched(path):
        program = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run([sys.executable, "-c", program, os.path.dirname(path)], stderr=subprocess.PIPE)
        seen.append(b"BlockingIOError" in done.stderr)
        real(path)

    monkeypatch.setattr(sockets, "_remove_stale", watched)
    listen(stale).close()
    assert seen == [True]


def test_closing_removes_the_file_and_twice_does_nothing(path):
    listener = listen(path)
    listener.close()
    assert not os.path.exists(path)
    assert listener.closed
    assert listener.fileno() == -1
    with listen(path):
        listener.close()
        assert os.path.exists(path)


def test_a_file_that_is_anothers_by_now_stays(path):
    listener = listen(path)
    os.unlink(path)
    with listen(path) as other:
        listener.close()
        assert exchanged(other) == b"answer"


def test_a_fork_closes_its_copy_and_leaves_the_file(path):
    with listen(path) as listener:
        pid = os.fork()
        if pid == 0:
            listener.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert exchanged(listener) == b"answer"


def test_a_listener_made_of_anothers_socket_leaves_the_file(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        sock.listen()
        with Listener(sock.dup()) as listener:
            assert exchanged(listener) == b"answer"
        assert os.path.exists(path)


# Accepting


def test_options_go_to_each_channel(path):
    with listen(path, max_message=10) as listener, connect(path) as client, listener.accept() as server:
        client.send(b"x" * 11)
        with pytest.raises(fdpass.MessageTooLarge):
            server.recv()


@pytest.mark.parametrize(("options", "error"), [({"max_mesage": 1}, TypeError), ({"max_fds": -1}, InvalidMessage)])
def test_a_mistake_in_the_options_shows_at_once(path, options, error):
    with pytest.raises(error):
        listen(path, **options)
    assert not os.path.exists(path)
    with listen(path), pytest.raises(error):
        connect(path, **options)


def test_a_mistake_that_shows_late_closes_the_connection(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        sock.listen()
        with Listener(sock.dup(), max_fds=-1) as listener, connect(path) as client:
            with pytest.raises(InvalidMessage):
                listener.accept()
            with pytest.raises(PeerClosed):
                client.recv()


def test_who_is_refused_is_closed_and_logged_before_anything_is_read(path, caplog):
    asked = []

    def second_only(peer):
        asked.append(peer)
        return len(asked) == 2

    with listen(path, allow=second_only) as listener, connect(path) as refused, connect(path) as admitted:
        reader, writer = os.pipe()
        with fdpass.Fd(reader), fdpass.Fd(writer):
            refused.send(b"hello", [reader])
        admitted.send(b"it is me")
        with caplog.at_level(logging.INFO, "fdpass"), listener.accept() as server:
            assert server.recv().data == b"it is me"
        with pytest.raises(PeerClosed):
            refused.recv()
    assert [peer.pid for peer in asked] == [os.getpid()] * 2
    assert all(peer.pidfd is None or peer.pidfd.closed for peer in asked)
    assert [record.getMessage() for record in caplog.records] == [
        f"refused a connection from pid {os.getpid()}, uid {os.geteuid()}, gid {os.getegid()}"
    ]


def test_a_rule_that_fails_refuses_and_the_server_goes_on(path, caplog):
    failing = [KeyError("no such user")]

    def rule(_peer):
        if failing:
            raise failing.pop()
        return True

    with listen(path, allow=rule) as listener, connect(path) as refused, connect(path):
        listener.accept().close()
        with pytest.raises(PeerClosed):
            refused.recv()
    assert "no such user" in caplog.text


def test_what_interrupts_a_rule_goes_through_and_leaves_nothing_open(path):
    def rule(_peer):
        raise KeyboardInterrupt

    with listen(path, allow=rule) as listener, connect(path), pytest.raises(KeyboardInterrupt):
        listener.accept()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become another user")
@pytest.mark.parametrize(
    ("allow", "admitted"),
    [
        (None, False),
        (Allow(uids={65534}), True),
        (Allow(gids={4711}), True),
        (Allow(gids={65534}), True),
        (Allow(), False),
    ],
)
def test_another_user_needs_a_rule(allow, admitted):
    name = f"@fdpass-rule-{os.getpid()}"
    rule = allow and (lambda peer: peer.pid == os.getpid() or allow(peer))
    with listen(name, allow=rule) as listener:
        pid = os.fork()
        if pid == 0:
            _be_a_stranger(name)
        select.select([listener], [], [])  # the stranger is first in the queue, we are second
        with connect(name), listener.accept() as server, server.peer as peer:
            assert (peer.pid == pid) is admitted
            if admitted:
                assert (peer.uid, peer.gid, peer.groups) == (65534, 65534, (4711,))
                server.send(b"welcome")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (0 if admitted else 1)


def _be_a_stranger(name):
    status = 2
    try:
        os.setgroups([4711])
        os.setgid(65534)
        os.setuid(65534)
        with connect(name) as client:
            status = 0 if client.recv().data == b"welcome" else 2
    except PeerClosed:
        status = 1
    finally:
        os._exit(status)


def test_a_client_that_is_gone_does_not_end_the_loop(path):
    with listen(path) as listener:
        connect(path).close()
        with connect(path) as client:
            gone = listener.accept()
            with gone, pytest.raises(PeerClosed):
                gone.recv()
            client.send(b"here")
            with listener.accept() as server:
                assert server.recv().data == b"here"


def test_a_connection_that_was_aborted_is_passed_over(path, monkeypatch):
    real, failing = (
        socket.socket.accept,
        [ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort")],
    )

    def accept(sock):
        if failing:
            raise failing.pop()
        return real(sock)

    monkeypatch.setattr(socket.socket, "accept", accept)
    with listen(path) as listener, connect(path):
        listener.accept().close()
    assert not failing


def test_a_full_table_is_told_and_the_connection_waits(path):
    with listen(path) as listener, connect(path) as client:
        client.send(b"patient")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            with pytest.raises(CallFailed) as caught:
                listener.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.errno == errno.EMFILE
        with listener.accept() as server:
            assert server.recv().data == b"patient"


def test_iteration_ends_when_the_listener_is_closed(path):
    with listen(path) as listener, connect(path), connect(path):
        count = 0
        for channel in listener:
            channel.close()
            count += 1
            if count == 2:
                listener.close()
    assert count == 2


def test_a_closed_listener_says_so(path):
    listener = listen(path)
    listener.close()
    with pytest.raises(Closed):
        listener.accept()
    assert list(listener) == []
    assert repr(listener) == "<Listener closed>"


@pytest.mark.parametrize("seconds", [0, 0.01])
def test_accept_keeps_its_timeout(path, seconds):
    with listen(path) as listener:
        listener.settimeout(seconds)
        with pytest.raises(Timeout):
            listener.accept()
        with connect(path):
            listener.accept().close()


def test_peers_that_are_refused_do_not_prolong_the_timeout(path, monkeypatch):
    """Each refused connection is at once followed by the next: without one deadline for all, for ever."""
    clock = itertools.count()
    monkeypatch.setattr("fdpass.listening.time", types.SimpleNamespace(monotonic=lambda: float(next(clock))))
    clients = []

    def rule(_peer):
        assert len(clients) < 100
        clients.append(connect(path))
        return False

    with listen(path, allow=rule) as listener:
        clients.append(connect(path))
        listener.settimeout(5)
        with pytest.raises(Timeout):
            listener.accept()
    for client in clients:
        client.close()
    assert 2 < len(clients) < 10


def test_a_negative_timeout_is_told(path):
    with listen(path) as listener, pytest.raises(InvalidMessage):
        listener.settimeout(-1)
    with pytest.raises(InvalidMessage):
        connect(path, timeout=-1)


# Connecting


def test_who_connects_is_told_what_is_wrong(path, stale, tmp_path):
    with pytest.raises(NotFound, match="missing"):
        connect(tmp_path / "missing")
    with pytest.raises(NotListening):
        connect(stale)


def test_the_wrong_type_is_explained(path):
    with listen(path, type="stream"):
        with pytest.raises(CallFailed, match="of another type") as caught:
            connect(path)
        assert caught.value.errno == errno.EPROTOTYPE


def test_a_channel_blocks_whatever_the_default_timeout(path):
    socket.setdefaulttimeout(0.001)
    try:
        with listen(path) as listener, connect(path, timeout=5) as client, listener.accept() as server:
            assert client.gettimeout() is None
            assert os.get_blocking(client.fileno())
            assert os.get_blocking(server.fileno())
    finally:
        socket.setdefaulttimeout(None)


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_a_full_backlog_is_waited_for_within_the_timeout(path, seconds):
    with listen(path, backlog=0), connect(path), pytest.raises(Timeout, match="backlog"):
        connect(path, timeout=seconds)


@pytest.mark.parametrize("seconds", [None, 60])
def test_who_waits_for_room_gets_in_even_after_a_signal(path, seconds):
    """After EINTR in connect(2), CPython takes a Unix socket for connected that is not."""
    signals = []

    def third_makes_room(*_):
        signals.append(1)
        if len(signals) == 3:
            listener.accept().close()

    before = signal.signal(signal.SIGALRM, third_makes_room)
    try:
        with listen(path, backlog=0) as listener, connect(path):
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            with connect(path, timeout=seconds) as late:
                signal.setitimer(signal.ITIMER_REAL, 0)
                late.send(b"in")
                with listener.accept() as server:
                    assert server.recv().data == b"in"
                assert _send_timeout(late) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(signals) >= 3


def _send_timeout(channel):
    with socket.socket(fileno=os.dup(channel.fileno())) as sock:
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16), "little")


def test_nothing_is_inherited(path):
    with listen(path) as listener, connect(path) as client, listener.accept() as server:
        assert not any(map(os.get_inheritable, (listener.fileno(), client.fileno(), server.fileno())))
        assert isinstance(server, Channel)
