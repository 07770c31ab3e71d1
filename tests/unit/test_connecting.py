"""`connect`, blocking, and the addresses that `connect` and `listen` take."""

import errno
import os
import signal
import socket

import pytest

from fdpass import (
    AddressInUse,
    AsyncChannel,
    CallFailed,
    Channel,
    InvalidMessage,
    NotFound,
    NotListening,
    Timeout,
    connect,
    listen,
)
from fdpass.testing import full_table

from ._channels import exchange


@pytest.mark.parametrize("type_", ["seqpacket", "stream"])
def test_client_and_server_exchange_messages_at_a_path(path, type_):
    with listen(path, type=type_) as listener:
        assert listener.address == path
        assert exchange(listener, type=type_) == b"answer"


@pytest.mark.parametrize("first", ["@", "\0"])
def test_client_and_server_exchange_messages_at_an_abstract_address(first):
    name = f"fdpass-test-{os.getpid()}"
    with listen(first + name) as listener:
        assert listener.address == "@" + name
        assert exchange(listener) == b"answer"
        with pytest.raises(AddressInUse):
            listen("@" + name)
    with pytest.raises(NotListening):
        connect("@" + name)


def test_the_address_can_be_a_path_object(tmp_path):
    with listen(tmp_path / "s") as listener:
        assert exchange(listener) == b"answer"


def test_a_relative_socket_file_is_removed_after_a_change_of_directory(tmp_path, monkeypatch):
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
def test_an_impossible_address_is_refused_with_the_reason(call, address, words):
    with pytest.raises(InvalidMessage, match=words):
        call(address)


def test_an_address_can_have_107_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with listen("x" * 107) as listener:
        assert exchange(listener) == b"answer"


@pytest.mark.parametrize("call", [listen, connect])
def test_an_unknown_type_is_refused(call, path):
    with pytest.raises(InvalidMessage, match="seqpacket"):
        call(path, type="dgram")


def test_connect_raises_an_error_for_each_cause(path, stale, tmp_path):
    with pytest.raises(NotFound, match="missing"):
        connect(tmp_path / "missing")
    with pytest.raises(NotListening):
        connect(stale)


def test_a_listener_of_another_type_is_named_in_the_error(path):
    with listen(path, type="stream"):
        with pytest.raises(CallFailed, match="of another type") as caught:
            connect(path)
        assert caught.value.errno == errno.EPROTOTYPE


def test_channels_block_despite_a_default_timeout_of_sockets(path):
    socket.setdefaulttimeout(0.001)
    try:
        with listen(path) as listener, connect(path, timeout=5) as client, listener.accept() as server:
            assert client.gettimeout() is None
            assert os.get_blocking(client.fileno())
            assert os.get_blocking(server.fileno())
    finally:
        socket.setdefaulttimeout(None)


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_connect_waits_for_a_full_backlog_until_the_timeout(path, seconds):
    with listen(path, backlog=0), connect(path), pytest.raises(Timeout, match="backlog"):
        connect(path, timeout=seconds)


@pytest.mark.parametrize("seconds", [None, 60])
def test_connect_goes_on_waiting_for_the_backlog_after_signals(path, seconds):
    """After EINTR in connect(2), CPython assumes that a Unix socket is connected, which it is not."""
    signals = []

    def accept_at_the_third(*_):
        signals.append(1)
        if len(signals) == 3:
            listener.accept().close()

    before = signal.signal(signal.SIGALRM, accept_at_the_third)
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


def test_listener_and_channels_are_close_on_exec(path):
    with listen(path) as listener, connect(path) as client, listener.accept() as server:
        assert not any(map(os.get_inheritable, (listener.fileno(), client.fileno(), server.fileno())))
        assert isinstance(server, Channel)


@pytest.mark.parametrize("free", [0, 1])
def test_a_full_descriptor_table_is_a_typed_error(path, free):
    """Of everything that makes a socket; nothing stays open."""
    calls = [Channel.pair, AsyncChannel.pair]
    if not free:
        calls += [lambda: connect(path), lambda: listen("@never"), lambda: listen(f"{path}2")]
    with listen(path) as listener:
        for call in calls:
            with full_table(free=free), pytest.raises(CallFailed) as caught:
                call()
            assert caught.value.errno == errno.EMFILE
        assert exchange(listener) == b"answer"
