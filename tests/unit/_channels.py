"""The kinds of channel and of event loop for which tests run, and an exchange of messages over a listener."""

import pytest

from fdpass import connect

LOOPS = {"asyncio": ("asyncio", {}), "uvloop": ("asyncio", {"use_uvloop": True}), "trio": ("trio", {})}
"""For each event loop, the backend of `anyio.run` and its options."""

every_loop = pytest.mark.parametrize("loop", LOOPS)
every_type = pytest.mark.parametrize("kind", ["seqpacket", "stream"])
either_way = pytest.mark.parametrize("acknowledged", [False, True], ids=["plain", "acknowledged"])


def exchange(listener, **options):
    """Connect, ask and be answered: the answer. ``options`` are those of `connect`."""
    with connect(listener.address, **options) as client, listener.accept() as server:
        client.send(b"question")
        assert server.recv().data == b"question"
        server.send(b"answer")
        return client.recv().data
