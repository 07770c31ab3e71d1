"""HAProxy: the test takes over the listening sockets of a running HAProxy, as a new HAProxy does at a reload.

On a statistics socket with `expose-fd listeners`, HAProxy answers `_getsocks` with the number of listeners as one
int, and then with up to 252 descriptors a message. The client acknowledges each message but the last with an int.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

import pytest

import fdpass

CONFIGURATION = """
global
    stats socket fd@{control} level admin expose-fd listeners
defaults
    mode http
    timeout connect 10s
    timeout client 10s
    timeout server 10s
frontend web
    bind 127.0.0.1:{port}
{more}
    http-request return status 200 content-type text/plain string served-by-haproxy
"""


@pytest.fixture
def reserved():
    """A port for HAProxy, which no other program can take: the test and HAProxy bind it with SO_REUSEPORT."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()


@pytest.fixture
def haproxy(tool, tmp_path, reserved, start):
    """Start HAProxy, with ``more`` additional listeners: its process, and a connection to its statistics socket.

    HAProxy inherits that socket, which listens already: the connection waits in the backlog until HAProxy runs.
    """
    path = tmp_path / "stats"
    with socket.socket(socket.AF_UNIX) as stats:

        def run(more=0):
            binds = "\n".join(f"    bind unix@{tmp_path}/{number}" for number in range(more))
            with socket.socket(socket.AF_UNIX) as control:
                control.bind(str(path))
                control.listen()
                configuration = tmp_path / "haproxy.cfg"
                words = {"control": control.fileno(), "port": reserved[1], "more": binds}
                configuration.write_text(CONFIGURATION.format(**words))
                child = start(tool("haproxy"), "-db", "-q", "-f", configuration, pass_fds=[control.fileno()])
            stats.settimeout(60)
            stats.connect(str(path))
            return child, stats

        yield run


def fetch_listeners(stats, closing):
    """Every listener of this HAProxy, as a socket, and the number of descriptors in each message."""
    stats.sendall(b"_getsocks\n")
    (count,) = struct.unpack("=i", fdpass.recv_fds(stats, 4).data)
    found, sizes = [], []
    while len(found) < count:
        message = closing.enter_context(fdpass.recv_fds(stats))
        assert len(message) > 0
        sizes.append(len(message))
        assert {fd.kind for fd in message.fds} == {"listener"}
        found += [closing.enter_context(fd.socket()) for fd in message.fds]
        if len(found) < count:  # after the last message HAProxy closes the connection
            stats.sendall(struct.pack("=i", len(found)))
    return found, sizes


def get(address):
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with client.makefile("rb") as file:
            return file.read()


def test_a_listener_outlives_the_haproxy_that_opened_it(haproxy, reserved):
    """The test accepts on HAProxy's listening socket after HAProxy has ended."""
    child, stats = haproxy()
    with contextlib.ExitStack() as closing:
        found, _ = fetch_listeners(stats, closing)
        assert b"served-by-haproxy" in get(reserved)
        (listener,) = [sock for sock in found if sock.family == socket.AF_INET]
        assert listener.getsockname() == reserved
        child.kill()
        child.wait()
        listener.settimeout(60)
        with socket.create_connection(reserved) as client:
            accepted, address = listener.accept()
            with accepted:
                assert address == client.getsockname()


def test_more_listeners_than_one_message_carries_arrive_in_two(haproxy, tmp_path):
    """Each listener arrives once."""
    _, stats = haproxy(more=300)
    with contextlib.ExitStack() as closing:
        found, sizes = fetch_listeners(stats, closing)
        assert len(sizes) == 2
        # HAProxy binds a Unix socket to PATH.PID.tmp and renames the file; getsockname() returns the first name.
        paths = [Path(sock.getsockname()) for sock in found if sock.family == socket.AF_UNIX]
        served = [int(path.name.split(".")[0]) for path in paths if path.suffix == ".tmp"]
        assert sorted(served) == list(range(300))
