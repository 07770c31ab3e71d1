"""What the tests against foreign programs share: a pair of sockets, a document, and child processes that end."""

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
PATIENCE = 60  # seconds until a peer that never answers fails the test instead of hanging the run


@pytest.fixture
def tool() -> Callable[[str], str]:
    """The path of a program; skips the test, saying which, where it is not installed."""

    def find(name: str) -> str:
        # haproxy and its like live where a plain user's PATH does not lead.
        path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@pytest.fixture(params=list(TYPES))
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected Unix sockets, ours and the peer's, of each type in turn."""
    yield from _pair(TYPES[request.param])


@pytest.fixture
def stream_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected stream sockets, ours and the peer's, for peers that speak nothing else."""
    yield from _pair(socket.SOCK_STREAM)


def _pair(kind: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        ours.settimeout(PATIENCE)
        yield ours, theirs


@pytest.fixture
def loopback() -> Iterator[socket.socket]:
    """A TCP server of the test's own on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A file with known text: a word of 6 bytes with its blank, and the rest."""
    path = tmp_path / "document.txt"
    path.write_text("hello descriptor")
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a peer; what still runs at the end of the test is ended, by its own pid, and waited for."""
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
    """Wait for a peer: its exit code, and what it printed."""

    def wait(child: subprocess.Popen[bytes]) -> tuple[int, bytes]:
        printed, _ = child.communicate(timeout=PATIENCE)
        return child.returncode, printed

    return wait
