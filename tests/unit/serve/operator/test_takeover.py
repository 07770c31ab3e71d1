"""`free` removes the socket of a server that says that it stops, and believes no other user's."""

import contextlib
import fcntl
import json
import os
import socket
from types import SimpleNamespace

import pytest

from fdpass import _sockets
from fdpass.serve.operator import takeover

STOPPING = json.dumps({"server": {"stopping": True}}).encode()


@pytest.fixture
def path(tmp_path):
    """A path with a socket file."""
    made = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(made)
    return made


@pytest.fixture
def reply(monkeypatch):
    """Let the server at each path be this user's, and reply so."""

    def reply(data, uid=0):
        @contextlib.contextmanager
        def connected(*_):
            yield SimpleNamespace(
                peer=SimpleNamespace(uid=uid),
                settimeout=lambda _: None,
                send=lambda _: None,
                recv=lambda: SimpleNamespace(data=data),
            )

        monkeypatch.setattr(takeover, "connected", connected)

    return reply


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_the_path_of_a_server_that_is_stopping_is_freed(path, reply, uid):
    reply(STOPPING, uid)
    assert takeover.free(path)
    assert not os.path.lexists(path)


@pytest.mark.parametrize(
    ("data", "uid"), [(STOPPING, os.geteuid() + 1), (b"[" * 100_000, 0), (b"\xff", 0), (b"{}", 0)]
)
def test_a_path_stays_if_its_server_is_another_users_or_replies_nonsense(path, reply, data, uid):
    reply(data, uid)
    assert not takeover.free(path)
    assert os.path.lexists(path)


def test_a_file_that_may_not_be_removed_stays(path, reply, monkeypatch):
    def forbidden(_):
        raise PermissionError

    reply(STOPPING)
    monkeypatch.setattr(os, "unlink", forbidden)
    assert not takeover.free(path)


def test_a_folder_that_another_process_has_locked_holds_nobody_up(path, reply, monkeypatch):
    """Every user who may read a folder can lock it for ever."""
    monkeypatch.setattr(_sockets, "_LOCK_MAX", 0.05)
    reply(STOPPING)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_SH)
        assert takeover.free(path)
    finally:
        os.close(folder)
    assert not os.path.lexists(path)
