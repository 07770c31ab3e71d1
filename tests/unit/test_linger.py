"""`forget_linger`: the last close(2) of a socket shall not wait for its peer."""

import os
import socket
import struct

import pytest

from fdpass._linger import forget_linger


@pytest.mark.parametrize(("before", "after"), [((1, 30), 0), ((1, 0), 1), ((0, 0), 0)])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_some_seconds_are_forgotten_and_a_reset_is_not(family, before, after):
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", *before))
        forget_linger(sock.fileno())
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER) == after


def test_another_file_stays_as_it_is():
    reader, writer = os.pipe()
    forget_linger(writer)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
