"""Python's socket.send_fds and socket.recv_fds in another process: both directions, each type of socket."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fdpass

PEER = Path(__file__).with_name("python_peer.py")
COUNTS = [1, 3, 253]


@pytest.fixture
def documents(tmp_path):
    def write(count):
        paths = [tmp_path / f"{number}.txt" for number in range(count)]
        for path in paths:
            path.write_text(path.stem)
        return paths

    return write


@pytest.mark.parametrize("count", COUNTS)
def test_python_receives_what_we_send(pair, documents, start, outcome, count):
    """All descriptors arrive in order, with the data of their message."""
    ours, theirs = pair
    child = start(sys.executable, PEER, "recv", str(count), stdin=theirs, stdout=subprocess.PIPE)
    fds = [fdpass.Fd.open(path) for path in documents(count)]
    fdpass.send_fds(ours, b"from fdpass", fds, give=True)
    expected = "|".join(["from fdpass", "0", *map(str, range(count))])
    assert outcome(child) == (0, expected.encode() + b"\n")


@pytest.mark.parametrize("count", COUNTS)
def test_we_receive_what_python_sends(pair, documents, start, outcome, count):
    """The buffers arrive joined, and the descriptors in order."""
    ours, theirs = pair
    child = start(sys.executable, PEER, "send", *documents(count), stdin=theirs)
    with fdpass.recv_fds(ours) as message:
        assert message.data == b"from python"
        assert len(message) == count
        assert [os.pread(fd.fileno(), 100, 0) for fd in message.fds] == [b"%d" % n for n in range(count)]
    assert outcome(child)[0] == 0
