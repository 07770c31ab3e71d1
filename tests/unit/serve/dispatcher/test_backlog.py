"""How many connections wait for a listener."""

import socket

import pytest

from fdpass.serve.dispatcher.backlog import backlog_of


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_clients_that_wait_are_counted(tmp_path, family):
    with socket.socket(family) as sock, socket.socket(family) as first, socket.socket(family) as second:
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "s"))
        sock.listen(5)
        assert backlog_of(sock) == (0, 5)
        for client in (first, second):
            client.connect(sock.getsockname())
        assert backlog_of(sock) == (2, 5)
        sock.accept()[0].close()
        assert backlog_of(sock) == (1, 5)


def test_a_closed_listener_has_no_backlog():
    sock = socket.create_server(("127.0.0.1", 0))
    sock.close()
    assert backlog_of(sock) is None
