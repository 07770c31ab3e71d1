"""Raw handlers whose client sends more than a buffer holds, or goes away at a bad moment."""

import asyncio
import contextlib

import pytest

from fdpass.serve.shared.slots import BUFFER, BUFFER_SIZE, READ
from fdpass.serve.worker.connection import Connection
from fdpass.serve.worker.custody.reader import NOWHERE, nowhere
from fdpass.serve.worker.link import Link
from fdpass.serve.worker.passed_socket import PassedSocket

from .._custody_case import pair
from .._links import link_engine


@pytest.fixture
def engine():
    yield link_engine(4)
    NOWHERE[:] = nowhere()


@contextlib.asynccontextmanager
async def served(engine, slot):
    """A connection as its handler has it, its link, its slot, and its client."""
    server, client = pair("ipv4")
    client.setblocking(False)
    words = nowhere()
    with client, PassedSocket(server.detach(), slot, lambda _: None) as passed:
        passed.setblocking(False)
        link = Link(engine, passed, words)
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


def test_bytes_that_wait_for_a_slow_handler_do_not_overwrite_another_connections_buffer(engine):
    """More than a buffer holds had come when the handler committed, and the rest went over the neighbour."""

    async def main():
        loop = asyncio.get_running_loop()
        async with (
            served(engine, 0) as (flooded, link, _, attacker),
            served(engine, 1) as (_, other, words, victim),
        ):
            sending = asyncio.create_task(loop.sock_sendall(attacker, b"A" * (4 * BUFFER_SIZE)))
            await until(lambda: not link._transport.is_reading())
            await loop.sock_sendall(victim, b"the victim's own words\n")
            await until(lambda: len(other.unread) == 23)
            await flooded.read(BUFFER_SIZE // 2 + 1024)
            await until(lambda: not link._transport.is_reading())
            await flooded.commit(b"")
            start = (words[BUFFER] - 1) * BUFFER_SIZE
            buffered = engine.buffers.memory[start : start + words[READ] + 1]
            sending.cancel()
            assert buffered == b"the victim's own words\n\0"

    asyncio.run(main())


def test_a_commit_after_the_client_has_gone_takes_no_buffer(engine):
    async def main():
        loop = asyncio.get_running_loop()
        async with served(engine, 0) as (conn, link, _, client):
            await loop.sock_sendall(client, b"x" * (BUFFER_SIZE - 1024))
            await until(lambda: not link._transport.is_reading())
            await conn.read(10)
            link._transport.abort()
            await until(lambda: link.lost)
            with contextlib.suppress(ConnectionError):
                await conn.commit(b"")
        assert sorted(engine.buffers.free) == list(range(1, len(engine.buffers.views)))

    asyncio.run(main())
