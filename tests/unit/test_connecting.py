"""`connect`, blocking, and the addresses that it shares with `listen`."""

import errno
import os
import signal
import socket

import pytest

from fdpass import (
    AddressInUse,
    CallFailed,
    Channel,
    InvalidMessage,
    NotFound,
    NotListening,
    Timeout,
    connect,
    listen,
)


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
