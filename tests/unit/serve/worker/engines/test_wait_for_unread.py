"""At the end no connection is closed over a request that is there and has not been read."""

import asyncio

import pytest

pytest.importorskip("uvicorn")

from fdpass.serve.worker.engines.wait_for_unread import patient

from . import test_uvicorn_contract as contract
from .test_uvicorn_contract import GET, UPGRADE, App, answer_of, connected, serving

pytestmark = contract.pytestmark
HTTP = [patient(http) for http in contract.HTTP]


def sent(writer, data):
    """Put it into the kernel now, in this turn of the loop."""
    writer.write(data)
    assert not writer.transport.get_write_buffer_size()


@pytest.mark.parametrize("again", [False, True], ids=["first", "next"])
@pytest.mark.parametrize("http", HTTP)
def test_a_request_that_nobody_has_read_yet_is_answered_before_the_end(http, again):
    async def main():
        async with serving(App(), http=http) as server, connected(server) as (protocol, reader, writer):
            if again:
                sent(writer, GET)
                await answer_of(reader)
            sent(writer, GET)
            protocol.shutdown()
            await answer_of(reader)
            assert await reader.read() == b""

    asyncio.run(main())


@pytest.mark.parametrize("http", HTTP)
def test_who_has_not_asked_is_closed_at_once(http):
    async def main():
        async with serving(App(), http=http) as server, connected(server) as (protocol, reader, _):
            protocol.shutdown()
            assert protocol.transport.is_closing()
            assert await reader.read() == b""

    asyncio.run(main())


@pytest.mark.parametrize("http", HTTP)
def test_a_client_that_went_away_meanwhile_is_no_trouble(http):
    async def main():
        async with serving(App(), http=http) as server, connected(server) as (protocol, _, writer):
            sent(writer, b"GET / HTT")
            writer.close()
            protocol.shutdown()
            while protocol in server.server_state.connections:
                await asyncio.sleep(0)

    asyncio.run(main())


def test_what_becomes_a_websocket_meanwhile_is_closed_as_one():
    pytest.importorskip("websockets")

    async def main():
        async with serving(App(), http=HTTP[1]) as server, connected(server) as (protocol, reader, writer):
            sent(writer, UPGRADE)
            protocol.shutdown()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            assert await reader.readexactly(2) == b"\x88\x02"
            assert int.from_bytes(await reader.readexactly(2), "big") == 1012

    asyncio.run(main())
