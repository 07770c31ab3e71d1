"""systemd: recv_fds receives the notifications of services, in place of the service manager.

The notification socket is a datagram socket with SO_PASSCRED: credentials stand before the descriptors.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

import fdpass


@pytest.fixture
def notifications(tmp_path, monkeypatch):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield sock


def test_descriptors_of_fdstore_arrive_with_credentials(notifications, document, tmp_path, start, outcome):
    """Both descriptors arrive, with the state, and with the sender's pid, uid and gid."""
    (tmp_path / "second").write_text("second")
    peer = Path(__file__).with_name("notify_peer.py")
    child = start(sys.executable, peer, document, tmp_path / "second")
    code, _ = outcome(child)
    if code == 77:
        pytest.skip("libsystemd is not installed")
    assert code == 0
    with fdpass.recv_fds(notifications) as message:
        assert message.data == b"FDSTORE=1\nFDNAME=kept"
        assert message.credentials == (child.pid, os.getuid(), os.getgid())
        assert [os.pread(fd.fileno(), 100, 0) for fd in message.fds] == [b"hello descriptor", b"second"]


def test_systemd_notify_ends_when_the_descriptor_of_its_barrier_is_closed(tool, notifications, start, outcome):
    """systemd-notify waits until every duplicate of the descriptor of BARRIER=1 is closed."""
    child = start(tool("systemd-notify"), "--ready")
    with fdpass.recv_fds(notifications) as message:
        assert message.data.splitlines()[0] == b"READY=1"
        assert len(message) == 0
    with fdpass.recv_fds(notifications) as message:
        assert (message.data, len(message)) == (b"BARRIER=1", 1)
        assert child.poll() is None
    assert outcome(child)[0] == 0
