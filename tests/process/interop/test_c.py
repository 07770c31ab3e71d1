"""A C program that passes one byte and one int, as most C programs do: both directions, each type of socket."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import fdpass


@pytest.fixture
def classic(tool, tmp_path):
    program = tmp_path / "classic"
    source = Path(__file__).with_name("classic.c")
    subprocess.run([tool("gcc"), "-Wall", "-Werror", "-o", program, source], check=True)
    return program


def test_c_receives_the_open_file_that_we_send(classic, pair, document, start, outcome):
    """Both have one open file: the C program reads on where the test stopped, and moves the offset of both."""
    ours, theirs = pair
    child = start(classic, "recv", stdin=theirs, stdout=subprocess.PIPE)
    with fdpass.Fd.open(document) as fd:
        assert os.read(fd.fileno(), 6) == b"hello "
        assert fdpass.send_fds(ours, b"!", [fd]) == 1
        assert outcome(child) == (0, b"descriptor")
        assert os.read(fd.fileno(), 1) == b""


def test_c_receives_the_descriptor_that_we_give(classic, pair, document, start, outcome):
    """It is closed at the sender, and open in the C program."""
    ours, theirs = pair
    fd = fdpass.Fd.open(document)
    fdpass.send_fds(ours, b"!", [fd], give=True)
    assert fd.closed
    child = start(classic, "recv", stdin=theirs, stdout=subprocess.PIPE)
    assert outcome(child) == (0, b"hello descriptor")


def test_we_receive_the_open_file_that_c_sends(classic, pair, document, start, outcome):
    """One byte and one descriptor arrive; the offset is that of the C program, and close-on-exec is set."""
    ours, theirs = pair
    child = start(classic, "send", document, stdin=theirs)
    with fdpass.recv_fds(ours) as message:
        assert message.data == b"!"
        (fd,) = message.fds
        assert not os.get_inheritable(fd.fileno())
        assert os.fstat(fd.fileno()).st_ino == document.stat().st_ino
        assert os.read(fd.fileno(), 100) == b"descriptor"
    assert outcome(child)[0] == 0
