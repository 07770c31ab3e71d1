"""`Peer` and `Allow`: pid, user, groups and pidfd of a peer, and rules about them."""

import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys

import pytest

from fdpass import Allow, CallFailed, Fd, Peer, _peer
from fdpass._peer import same_user


class FailingOptionsSocket(socket.socket):
    """A socket whose getsockopt fails, for each option in ``failing``, with the errno there."""

    failing: dict[int, int]

    def getsockopt(self, level, option, *rest):
        if option in self.failing:
            raise OSError(self.failing[option], os.strerror(self.failing[option]))
        return super().getsockopt(level, option, *rest)


@pytest.fixture
def failing_socket():
    one, other = socket.socketpair()
    with FailingOptionsSocket(fileno=one.detach()) as sock, other:
        yield sock


@pytest.mark.parametrize("type_", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_the_peer_of_a_socket_pair_is_this_process(type_):
    one, other = socket.socketpair(socket.AF_UNIX, type_)
    with one, other, Peer.of(one) as peer:
        assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())


@pytest.fixture
def client(tmp_path):
    """A socket that is connected to a child process, and the process, which ends when its standard input does."""
    program = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); sys.stdin.read()"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "s")], stdin=subprocess.PIPE)
        try:
            sock, _ = listener.accept()
            with sock:
                yield sock, process
        finally:
            process.kill()
            process.wait()
            process.stdin.close()


def test_a_peer_has_the_pid_and_the_groups_of_its_process(client):
    sock, process = client
    with Peer.of(sock) as peer:
        assert peer.pid == process.pid
        assert sorted(peer.groups) == sorted(os.getgroups())  # inherited from this process


def test_the_pidfd_refers_to_the_process(client):
    sock, process = client
    with Peer.of(sock) as peer:
        if peer.pidfd is None:
            pytest.skip("this kernel has no SO_PEERPIDFD")
        assert peer.pidfd.kind == "pidfd"
        assert not os.get_inheritable(peer.pidfd.fileno())
        signal.pidfd_send_signal(peer.pidfd.fileno(), signal.SIGKILL)
        assert select.select([peer.pidfd], [], [], 60)[0]
        assert process.wait() == -signal.SIGKILL


def test_the_pid_is_known_after_the_process_has_ended(client):
    sock, process = client
    process.kill()
    process.wait()
    with Peer.of(sock) as peer:
        assert peer.pid == process.pid


def test_a_peer_can_be_closed_twice():
    one, other = socket.socketpair()
    with one, other:
        peer = Peer.of(one)
        peer.close()
        peer.close()
        assert peer.pidfd is None or peer.pidfd.closed


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_socket_without_a_peer_is_an_error(family):
    """The kernel reports user -1, and no error; a rule must never see that as a peer."""
    with socket.socket(family) as sock, pytest.raises(CallFailed) as caught:
        Peer.of(sock)
    assert caught.value.errno == errno.ENOTCONN


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.ESRCH, errno.EINVAL, errno.ENODATA])
def test_pid_and_user_are_known_without_a_pidfd(failing_socket, number):
    failing_socket.failing = {77: number}
    with Peer.of(failing_socket) as peer:
        assert peer.pidfd is None
        assert peer.pid == os.getpid()


def test_a_full_descriptor_table_is_an_error_and_not_a_missing_pidfd(failing_socket):
    failing_socket.failing = {77: errno.EMFILE}
    with pytest.raises(CallFailed) as caught:
        Peer.of(failing_socket)
    assert caught.value.errno == errno.EMFILE


def test_groups_are_empty_if_there_are_too_many(failing_socket):
    failing_socket.failing = {59: errno.ERANGE}
    with Peer.of(failing_socket) as peer:
        assert peer.groups == ()


def test_an_error_of_getsockopt_is_translated(failing_socket):
    failing_socket.failing = {socket.SO_PEERCRED: errno.ENOMEM}
    with pytest.raises(CallFailed, match="cannot tell who"):
        Peer.of(failing_socket)


def test_groups_are_read_as_unsigned_32_bit_numbers(failing_socket, monkeypatch):
    def two_groups(_self, _level, option, *_rest):
        return struct.pack("=II", 7, 4_000_000_000) if option == 59 else struct.pack("iII", 1, 2, 3)

    monkeypatch.setattr(FailingOptionsSocket, "getsockopt", two_groups)
    with pytest.raises(TypeError):  # the fake returns bytes for the pidfd, too
        Peer.of(failing_socket)
    monkeypatch.setattr("fdpass._peer._pidfd", lambda _sock: None)
    assert Peer.of(failing_socket) == Peer(1, 2, 3)
    assert Peer.of(failing_socket).groups == (7, 4_000_000_000)


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        (Allow(), False),
        (Allow(uids={1000}), True),
        (Allow(uids=[1, 2]), False),
        (Allow(gids={50}), True),
        (Allow(gids={60}), True),
        (Allow(gids={1000}), False),
        (Allow(uids={1}, gids={50}), True),
    ],
)
def test_allow_admits_by_user_or_by_any_group(rule, admitted):
    assert rule(Peer(1, 1000, 50, groups=(60, 61))) is admitted


def test_allow_does_not_admit_root_unless_named():
    assert not Allow(uids={1000})(Peer(1, 0, 0))


def test_the_default_rule_admits_the_own_user_and_root():
    us = os.geteuid()
    assert same_user(Peer(1, us, 5))
    assert same_user(Peer(1, 0, 5))
    assert not same_user(Peer(1, us + 1, 0, groups=(0,)))


IN_A_USER_NAMESPACE = """
import os, sys
from fdpass import Allow, Peer
from fdpass._peer import same_user
nobody, group, root = Peer(1, 65534, 7), Peer(1, 7, 65534, groups=(65534,)), Peer(1, 0, 0)
rule = Allow(uids={0, 65534}, gids={65534})
print(os.geteuid(), [rule(peer) for peer in (nobody, group, root)], [same_user(peer) for peer in (nobody, root)])
"""


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["--user"], "65534 [False, False, True] [False, True]"),
        (["--user", "--map-root-user"], "0 [False, False, True] [False, True]"),
    ],
    ids=["no user is mapped", "one user is mapped"],
)
def test_in_a_user_namespace_nobody_is_admitted_as_65534(options, printed):
    """The kernel shows each user that the namespace does not map by this number."""
    if subprocess.run(["unshare", *options, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespace can be made here")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["unshare", *options, sys.executable, "-c", IN_A_USER_NAMESPACE]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == printed + "\n"


@pytest.mark.parametrize(
    ("mapping", "admitted"),
    [
        ("         0          0 4294967295\n", True),
        ("0 100000 65536\n", False),
        ("0 0 2147483648\n2147483648 2147483648 2147483647\n", True),
        (None, False),
    ],
    ids=["first namespace", "container", "in two parts", "no /proc"],
)
def test_65534_is_an_identity_only_where_every_user_is_mapped(mapping, admitted, monkeypatch, tmp_path):
    """In a container that maps 65536 users, the number stands for all others, too."""
    (tmp_path / "map").write_text(mapping or "")
    path = tmp_path / ("map" if mapping else "missing")
    monkeypatch.setattr(_peer, "open", lambda _path, **options: open(path, **options), raising=False)
    monkeypatch.setattr(_peer, "_overflow", lambda _kind: 65534)
    assert Allow(uids={65534})(Peer(1, 65534, 7)) is admitted
    assert Allow(gids={65534})(Peer(1, 7, 8, groups=(65534,))) is admitted
    assert Allow(uids={7})(Peer(1, 7, 8))


def test_a_peer_owns_its_pidfd():
    peer = Peer(1, 2, 3, Fd(os.open("/dev/null", os.O_RDONLY)))
    with peer:
        assert not peer.pidfd.closed
    assert peer.pidfd.closed
