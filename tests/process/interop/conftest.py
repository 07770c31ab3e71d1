"""Fixtures for the tests with other programs: pairs of sockets, a file, and child processes that are ended."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TYPES = {"stream": socket.SOCK_STREAM, "dgram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
TIMEOUT = 60  # seconds until a peer that does not answer fails the test


@pytest.fixture
def tool() -> Callable[[str], str]:
    """Find the path of a program; skip the test if the program is not installed."""

    def find(name: str) -> str:
        # The PATH of a user often lacks the folders of haproxy and other servers.
        path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@pytest.fixture(params=list(TYPES))
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected Unix sockets, the test's and the peer's; the test runs for each type."""
    yield from _pair(TYPES[request.param])


@pytest.fixture
def stream_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected stream sockets, the test's and the peer's, for peers that need a stream."""
    yield from _pair(socket.SOCK_STREAM)


def _pair(kind: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        ours.settimeout(TIMEOUT)
        yield ours, theirs


@pytest.fixture
def loopback() -> Iterator[socket.socket]:
    """A listening TCP socket of the test, on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT)
        yield server


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A file with the text "hello descriptor"."""
    path = tmp_path / "document.txt"
    path.write_text("hello descriptor")
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a child process; the end of the test kills those that still run, by their pids, and waits for them."""
    running: list[subprocess.Popen[bytes]] = []

    def run(*command: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        child = subprocess.Popen([str(word) for word in command], **options)
        running.append(child)
        return child

    yield run
    for child in running:
        with child:  # closes its pipes, and waits
            child.kill()


@pytest.fixture
def outcome() -> Callable[[subprocess.Popen[bytes]], tuple[int, bytes]]:
    """Wait for a child process: its exit code and its standard output."""

    def wait(child: subprocess.Popen[bytes]) -> tuple[int, bytes]:
        printed, _ = child.communicate(timeout=TIMEOUT)
        return child.returncode, printed

    return wait
