"""Resets at bad moments: of a socket that is closed or detached, or whose number another socket has got."""

import asyncio
import socket
import threading

import pytest

from fdpass.serve.shared.slots import FLAGS, Flag
from fdpass.serve.worker import passed_socket as module
from fdpass.serve.worker.custody.reader import nowhere
from fdpass.serve.worker.link import Link
from fdpass.serve.worker.passed_socket import PassedSocket

from .._custody_case import pair
from .._links import link_engine


def test_a_descriptor_number_that_another_socket_has_got_is_not_reset(monkeypatch):
    """The other thread runs between the look at the number and the system call, which releases the lock."""
    server, client = pair("ipv4")
    passed = PassedSocket(server.detach(), 0, lambda _: None)
    number, real, others = passed.fileno(), module.reset, []
    closing = threading.Thread(target=passed.close)

    def switched(found):
        closing.start()  # the handler's thread ...
        closing.join(0.05)
        while not others or others[-1][0].fileno() < number:
            others.append(pair("ipv4"))  # ... and somebody else's
        real(found)

    monkeypatch.setattr(module, "reset", switched)
    with client:
        passed.reset()
        closing.join()
        for here, there in others:
            with here, there:
                there.sendall(b"x")
                assert here.recv(1) == b"x"


def test_a_detached_socket_is_not_reset():
    server, client = pair("ipv4")
    with client:
        passed = PassedSocket(server.detach(), 0, lambda _: None)
        with socket.socket(fileno=passed.detach()):
            passed.reset()


@pytest.mark.parametrize("kind", ["ipv4", "unix"])
def test_the_end_of_a_client_does_not_leave_reading_set(kind):
    """Of a Unix socket READING would stand for ever after its end: a death then is a reset, with all committed."""

    async def main():
        server, client = pair(kind)
        words = nowhere()
        with client, PassedSocket(server.detach(), 0, lambda _: None) as passed:
            passed.setblocking(False)
            link = Link(link_engine(), passed, words)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: link, passed)
            client.shutdown(socket.SHUT_WR)
            while not link.eof:
                await asyncio.sleep(0)
            flags = words[FLAGS]
            link._transport.abort()
            while not link.lost:
                await asyncio.sleep(0)
        assert not flags & Flag.READING

    asyncio.run(main())
