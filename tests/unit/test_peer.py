"""Who is at the other end: pid, user, groups and pidfd, as the kernel vouches for them."""

import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys

import pytest

from fdpass import Allow, CallFailed, Fd, Peer
from fdpass._peer import same_user


class Answers(socket.socket):
    """A socket on which some options answer as another kernel, or another moment, would."""

    failing: dict[int, int]

    def getsockopt(self, level, option, *rest):
        if option in self.failing:
            raise OSError(self.failing[option], os.strerror(self.failing[option]))
        return super().getsockopt(level, option, *rest)


@pytest.fixture
def answering():
    one, other = socket.socketpair()
    with Answers(fileno=one.detach()) as sock, other:
        yield sock


@pytest.mark.parametrize("type_", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_pair_made_here_has_us_at_both_ends(type_):
    one, other = socket.socketpair(socket.AF_UNIX, type_)
    with one, other, Peer.of(one) as peer:
        assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())


@pytest.fixture
def client(tmp_path):
    """A socket connected to a process that ends when its standard input does, and that process."""
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


def test_another_process_is_known_by_its_pid_and_groups(client):
    sock, process = client
    with Peer.of(sock) as peer:
        assert peer.pid == process.pid
        assert sorted(peer.groups) == sorted(os.getgroups())  # inherited from us


def test_the_pidfd_is_the_process(client):
    sock, process = client
    with Peer.of(sock) as peer:
        if peer.pidfd is None:
            pytest.skip("this kernel has no SO_PEERPIDFD")
        assert peer.pidfd.kind == "pidfd"
        assert not os.get_inheritable(peer.pidfd.fileno())
        signal.pidfd_send_signal(peer.pidfd.fileno(), signal.SIGKILL)
        assert select.select([peer.pidfd], [], [], 60)[0]
        assert process.wait() == -signal.SIGKILL


def test_a_process_that_has_ended_is_still_known(client):
    sock, process = client
    process.kill()
    process.wait()
    with Peer.of(sock) as peer:
        assert peer.pid == process.pid


def test_closing_twice_does_nothing_the_second_time():
    one, other = socket.socketpair()
    with one, other:
        peer = Peer.of(one)
        peer.close()
        peer.close()
        assert peer.pidfd is None or peer.pidfd.closed


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_socket_without_peer_has_none(family):
    """The kernel answers with user -1 and no error: a rule must never see that as somebody."""
    with socket.socket(family) as sock, pytest.raises(CallFailed) as caught:
        Peer.of(sock)
    assert caught.value.errno == errno.ENOTCONN


@pytest.mark.parametrize("number", [errno.ENOPROTOOPT, errno.ESRCH, errno.EINVAL, errno.ENODATA])
def test_without_pidfd_the_rest_is_known(answering, number):
    answering.failing = {77: number}
    with Peer.of(answering) as peer:
        assert peer.pidfd is None
        assert peer.pid == os.getpid()


def test_a_full_table_is_told_and_not_taken_for_an_old_kernel(answering):
    answering.failing = {77: errno.EMFILE}
    with pytest.raises(CallFailed) as caught:
        Peer.of(answering)
    assert caught.value.errno == errno.EMFILE


def test_more_groups_than_fit_are_none(answering):
    answering.failing = {59: errno.ERANGE}
    with Peer.of(answering) as peer:
        assert peer.groups == ()


def test_a_failing_call_is_translated(answering):
    answering.failing = {socket.SO_PEERCRED: errno.ENOMEM}
    with pytest.raises(CallFailed, match="cannot tell who"):
        Peer.of(answering)


def test_groups_are_read_whole(answering, monkeypatch):
    def two(_self, _level, option, *_rest):
        return struct.pack("=II", 7, 4_000_000_000) if option == 59 else struct.pack("iII", 1, 2, 3)

    monkeypatch.setattr(Answers, "getsockopt", two)
    with pytest.raises(TypeError):  # what is no number is no pidfd either
        Peer.of(answering)
    monkeypatch.setattr("fdpass._peer._pidfd", lambda _sock: None)
    assert Peer.of(answering) == Peer(1, 2, 3)
    assert Peer.of(answering).groups == (7, 4_000_000_000)


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
def test_allow_is_by_user_or_any_group(rule, admitted):
    assert rule(Peer(1, 1000, 50, groups=(60, 61))) is admitted


def test_allow_names_everybody_that_it_admits():
    assert not Allow(uids={1000})(Peer(1, 0, 0))


def test_by_default_our_user_and_root_are_admitted():
    us = os.geteuid()
    assert same_user(Peer(1, us, 5))
    assert same_user(Peer(1, 0, 5))
    assert not same_user(Peer(1, us + 1, 0, groups=(0,)))


def test_a_peer_owns_its_pidfd():
    peer = Peer(1, 2, 3, Fd(os.open("/dev/null", os.O_RDONLY)))
    with peer:
        assert not peer.pidfd.closed
    assert peer.pidfd.closed
