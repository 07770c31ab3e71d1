"""Fixtures for tests that listen at a Unix socket."""

import socket

import pytest


@pytest.fixture
def path(tmp_path):
    """A path for a socket file."""
    return str(tmp_path / "socket")


@pytest.fixture
def stale(path):
    """The path of a socket file whose socket is closed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(path)
        sock.listen()
    return path
