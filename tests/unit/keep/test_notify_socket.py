"""The socket for notifications: order, credentials, and what is refused."""

import contextlib
import logging
import os
import socket
import stat

import pytest

from fdpass import Fd, send_fds
from fdpass._keep.notify_socket import NotifySocket
from fdpass._supervision.loop import Loop
from fdpass.errors import AddressInUse
from fdpass.testing import full_table


class Heard:
    """Messages that the socket has passed on, and a rule that can be changed."""

    def __init__(self, loop, address, mode=0o600):
        self.messages, self.allowed = [], True
        self.socket = NotifySocket(loop, address, mode, lambda pid, uid: self.allowed, self.on_message)

    def on_message(self, message):
        assert message.credentials == (os.getpid(), os.getuid(), os.getgid())
        self.messages.append((message.data, len(message)))


@pytest.fixture
def loop():
    with contextlib.closing(Loop()) as loop:
        yield loop


@pytest.fixture
def heard(loop, tmp_path):
    heard = Heard(loop, str(tmp_path / "notify"))
    with contextlib.closing(heard.socket):
        yield heard


def send(heard, data, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        send_fds(sock, data, fds, flags=socket.MSG_DONTWAIT, address=heard.socket.address)


def test_messages_are_passed_on_in_order_with_their_descriptors(heard, loop):
    for number in range(5):
        send(heard, b"%d" % number, [0] * number)
    loop.call_later(0, loop.stop)
    loop.run()
    assert heard.messages == [(b"%d" % number, number) for number in range(5)]


def test_drain_handles_all_that_has_come(heard):
    for _ in range(5):
        send(heard, b"x")
    heard.socket.drain()
    assert len(heard.messages) == 5
    heard.socket.drain()


def test_a_refused_message_is_closed_and_logged_once_in_a_while(heard, caplog):
    heard.allowed = False
    reading, writing = os.pipe()
    with caplog.at_level(logging.WARNING, "fdpass.keep"):
        for _ in range(3):
            send(heard, b"x", [writing])
            heard.socket.read()
    os.close(writing)
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert heard.messages == []
    (line,) = caplog.messages
    assert f"refused a notification from process {os.getpid()} of uid {os.getuid()}" in line


def test_a_fault_in_the_handling_does_not_end_the_loop(heard, caplog):
    heard.on_message = None
    heard.socket._on_message = lambda message: 1 / 0
    send(heard, b"x", [0])
    heard.socket.read()
    assert "cannot handle a notification" in caplog.text


def test_a_message_whose_descriptors_had_no_room_is_passed_on_with_a_line(heard, caplog):
    send(heard, b"READY=1", [0])
    with full_table():
        heard.socket.read()
    assert heard.messages == [(b"READY=1", 0)]
    assert "were lost (table full)" in caplog.text


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_the_socket_file_has_its_mode_and_is_removed(loop, tmp_path, mode):
    path = tmp_path / "s"
    heard = Heard(loop, str(path), mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    heard.socket.close()
    assert not path.exists()


def test_a_stale_socket_file_is_replaced_and_a_used_one_is_not(loop, tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(path)
    with contextlib.closing(Heard(loop, path).socket), pytest.raises(AddressInUse):
        Heard(loop, path)
    with contextlib.closing(Heard(loop, path).socket):
        pass


def test_a_path_is_absolute_and_an_abstract_address_has_no_file(loop, tmp_path, monkeypatch):
    """The program may change its folder."""
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(Heard(loop, "s").socket) as made:
        assert made.address == str(tmp_path / "s")
    with contextlib.closing(Heard(loop, "@fdpass-test-notify").socket) as made:
        assert made.address == "@fdpass-test-notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, Fd(os.dup(0)) as fd:
            send_fds(sock, b"x", [fd], address="\0fdpass-test-notify")
