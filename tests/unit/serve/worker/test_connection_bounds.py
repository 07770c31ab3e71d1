"""Raw handlers whose client sends more than a buffer holds, or goes away at a bad moment."""

import asyncio
import contextlib
import mmap
import types

import pytest

from fdpass.serve.shared.slots import BUFFER, BUFFER_SIZE, READ
from fdpass.serve.worker.connection import Connection
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.custody.reader import NOWHERE, nowhere
from fdpass.serve.worker.link import Link
from fdpass.serve.worker.passed_socket import PassedSocket

from .._custody_case import pair

COUNT = 4


@pytest.fixture
def keeper():
    memory = mmap.mmap(-1, COUNT * BUFFER_SIZE)
    yield types.SimpleNamespace(buffers=Buffers(memory), scratch=memoryview(bytearray(BUFFER_SIZE)))
    NOWHERE[:] = nowhere()


@contextlib.asynccontextmanager
async def served(keeper, slot):
    """A connection as its handler has it, its link, its slot, and its client."""
    server, client = pair("ipv4")
    client.setblocking(False)
    words = nowhere()
    with client, PassedSocket(server.detach(), slot, lambda _: None) as passed:
        passed.setblocking(False)
        link = Link(keeper, passed, words)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: link, passed)
        try:
            yield Connection(link), link, words, client
        finally:
            link._transport.abort()
            await until(lambda: link.lost)


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


def test_what_waits_for_a_slow_handler_stays_in_the_buffer_of_its_own_connection(keeper):
    """More than a buffer had come when it committed, and what was kept went over the neighbour's bytes."""

    async def main():
        loop = asyncio.get_running_loop()
        async with served(keeper, 0) as (flood, link, _, attacker), served(keeper, 1) as (_, other, words, victim):
            sending = asyncio.create_task(loop.sock_sendall(attacker, b"A" * (4 * BUFFER_SIZE)))
            await until(lambda: not link._transport.is_reading())
            await loop.sock_sendall(victim, b"the victim's own words\n")
            await until(lambda: len(other.ahead) == 23)
            await flood.read(BUFFER_SIZE // 2 + 1024)
            await until(lambda: not link._transport.is_reading())
            await flood.commit(b"")
            start = (words[BUFFER] - 1) * BUFFER_SIZE
            kept = keeper.buffers.memory[start : start + words[READ] + 1]
            sending.cancel()
            assert kept == b"the victim's own words\n\0"

    asyncio.run(main())


def test_a_commit_after_the_client_has_gone_takes_no_buffer(keeper):
    async def main():
        loop = asyncio.get_running_loop()
        async with served(keeper, 0) as (conn, link, _, client):
            await loop.sock_sendall(client, b"x" * (BUFFER_SIZE - 1024))
            await until(lambda: not link._transport.is_reading())
            await conn.read(10)
            link._transport.abort()
            await until(lambda: link.lost)
            with contextlib.suppress(ConnectionError):
                await conn.commit(b"")
        assert sorted(keeper.buffers.free) == list(range(1, len(keeper.buffers.views)))

    asyncio.run(main())
