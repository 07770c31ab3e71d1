"""Channels with a faulty socket at one end, and the kinds of channel for which tests run."""

import socket
from contextlib import contextmanager

import pytest

from fdpass import Channel
from fdpass.testing import faulty_pair

TYPES = {"seqpacket": socket.SOCK_SEQPACKET, "stream": socket.SOCK_STREAM}

every_type = pytest.mark.parametrize("kind", TYPES)
either_way = pytest.mark.parametrize("acknowledged", [False, True], ids=["plain", "acknowledged"])


@contextmanager
def channels(kind, **options):
    """A channel on a faulty socket, the channel at its other end, and the faulty socket."""
    faulty, plain = faulty_pair(kind)
    with Channel(faulty, max_fds=1000, **options) as left, Channel(plain, max_fds=1000, **options) as right:
        left.settimeout(20)
        right.settimeout(20)
        yield left, right, faulty
