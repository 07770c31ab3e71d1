"""`listen` and `Listener`, blocking: which peers are accepted and refused, and each failure."""

import errno
import itertools
import logging
import os
import select
import socket
import types

import pytest

import fdpass
from fdpass import (
    Allow,
    AsyncListener,
    CallFailed,
    Closed,
    InvalidMessage,
    Listener,
    PeerClosed,
    Timeout,
    connect,
    listen,
)
from fdpass.testing import full_table


def test_channel_options_apply_to_each_accepted_channel(path):
    with listen(path, max_message=10) as listener, connect(path) as client, listener.accept() as server:
        client.send(b"x" * 11)
        with pytest.raises(fdpass.MessageTooLarge):
            server.recv()


@pytest.mark.parametrize(("options", "error"), [({"max_mesage": 1}, TypeError), ({"max_fds": -1}, InvalidMessage)])
def test_a_wrong_channel_option_is_an_error_of_listen_and_connect(path, options, error):
    with pytest.raises(error):
        listen(path, **options)
    assert not os.path.exists(path)
    with listen(path), pytest.raises(error):
        connect(path, **options)


@pytest.mark.parametrize("kind", [Listener, AsyncListener])
def test_a_wrong_option_is_an_error_of_the_constructor(kind):
    """At the first connection it would be too late; the caller still owns the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        with pytest.raises(InvalidMessage):
            kind(sock, max_fds=-1)
        with pytest.raises(TypeError, match="max_mesage"):
            kind(sock, max_mesage=1)
        assert sock.fileno() >= 0


def test_a_refused_connection_is_closed_unread_and_logged(path, caplog):
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


def test_a_rule_that_raises_refuses_the_peer_and_the_listener_goes_on(path, caplog):
    failing = [KeyError("no such user")]

    def rule(_peer):
        if failing:
            raise failing.pop()
        return True

    with listen(path, allow=rule) as listener, connect(path) as refused, connect(path) as admitted:
        with listener.accept() as server:
            server.send(b"welcome")
        assert admitted.recv().data == b"welcome"
        with pytest.raises(PeerClosed):
            refused.recv()
    assert "no such user" in caplog.text


@pytest.mark.parametrize("verdict", [None, 1, "yes", object()])
def test_a_rule_that_returns_neither_true_nor_false_refuses_the_peer(path, caplog, verdict):
    """The coroutine of an async function, for instance, is true for every peer."""
    with listen(path, allow=lambda _peer: verdict) as listener, connect(path):
        listener.settimeout(0)
        with pytest.raises(Timeout):
            listener.accept()
    assert "returns True or False" in caplog.text


def test_a_keyboard_interrupt_in_a_rule_leaves_nothing_open(path):
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
def test_another_user_is_admitted_only_by_a_rule(allow, admitted):
    name = f"@fdpass-rule-{os.getpid()}"
    rule = allow and (lambda peer: peer.pid == os.getpid() or allow(peer))
    with listen(name, allow=rule) as listener:
        pid = os.fork()
        if pid == 0:
            _connect_as_another_user(name)
        select.select([listener], [], [])  # the other user is first in the backlog, this process second
        with connect(name), listener.accept() as server, server.peer as peer:
            assert (peer.pid == pid) is admitted
            if admitted:
                assert (peer.uid, peer.gid, peer.groups) == (65534, 65534, (4711,))
                server.send(b"welcome")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (0 if admitted else 1)


def _connect_as_another_user(name):
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


def test_accept_goes_on_after_a_client_that_has_left(path):
    with listen(path) as listener:
        connect(path).close()
        with connect(path) as client:
            gone = listener.accept()
            with gone, pytest.raises(PeerClosed):
                gone.recv()
            client.send(b"here")
            with listener.accept() as server:
                assert server.recv().data == b"here"


def test_accept_skips_a_connection_that_was_aborted(path, monkeypatch):
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


def test_with_a_full_descriptor_table_accept_fails_and_the_connection_waits(path):
    with listen(path) as listener, connect(path) as client:
        client.send(b"patient")
        with full_table(), pytest.raises(CallFailed) as caught:
            listener.accept()
        assert caught.value.errno == errno.EMFILE
        with listener.accept() as server:
            assert server.recv().data == b"patient"


def test_with_one_free_descriptor_slot_the_connection_waits(path):
    """The second is for the peer's pidfd; without it, the connection would be accepted and closed."""
    with listen(path) as listener, connect(path) as client:
        client.send(b"patient")
        with full_table(free=1), pytest.raises(CallFailed) as caught:
            listener.accept()
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


def test_a_closed_listener_raises_closed(path):
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


def test_refused_peers_do_not_prolong_the_timeout(path, monkeypatch):
    """Each refused connection is at once followed by the next: one deadline must apply to all of them."""
    clock = itertools.count()
    monkeypatch.setattr("fdpass._waiting.time", types.SimpleNamespace(monotonic=lambda: float(next(clock))))
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


def test_a_negative_timeout_is_refused(path):
    with listen(path) as listener, pytest.raises(InvalidMessage):
        listener.settimeout(-1)
    with pytest.raises(InvalidMessage):
        connect(path, timeout=-1)
