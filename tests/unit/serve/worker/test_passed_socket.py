"""`PassedSocket`: whatever ends a passed connection, its end is told, once."""

import asyncio
import copy
import gc
import importlib.util
import os
import select
import socket
import ssl
import threading

import pytest

from fdpass.serve.worker.passed_socket import PassedSocket


@pytest.fixture
def told():
    return []


@pytest.fixture
def pair():
    """A passed connection's number, and the client."""
    ours, client = socket.socketpair()
    client.settimeout(60)
    yield ours.detach(), client
    client.close()


def passed_of(pair, told):
    return PassedSocket(pair[0], 0, lambda _: told.append(threading.get_ident()))


def test_close_tells_once(pair, told):
    passed = passed_of(pair, told)
    passed.close()
    passed.close()
    del passed
    gc.collect()
    assert len(told) == 1
    assert pair[1].recv(1) == b""


def test_it_is_closed_by_the_time_it_tells(pair):
    """Else the dispatcher could take the slot, and the descriptor's room, too early."""
    numbers = []
    passed = PassedSocket(pair[0], 0, lambda _: numbers.append(passed.fileno()))
    passed.close()
    assert numbers == [-1]


def test_a_with_block_tells(pair, told):
    with passed_of(pair, told):
        assert told == []
    assert len(told) == 1


def test_a_file_made_of_it_keeps_it_open(pair, told):
    """socketserver, wsgiref and others close the socket first, then its files."""
    passed = passed_of(pair, told)
    reading, writing = passed.makefile("rb"), passed.makefile("wb")
    passed.close()
    writing.write(b"x")
    writing.flush()
    assert pair[1].recv(1) == b"x"
    writing.close()
    assert told == []
    reading.close()
    assert len(told) == 1


def test_detach_tells_for_the_dispatcher_can_follow_it_no_further(pair, told):
    passed = passed_of(pair, told)
    number = passed.detach()
    assert len(told) == 1
    os.close(number)
    passed.close()
    assert len(told) == 1


def test_one_that_is_forgotten_is_closed_and_tells(pair, told):
    passed = passed_of(pair, told)
    del passed
    gc.collect()
    assert len(told) == 1
    assert pair[1].recv(1) == b""


def test_the_end_is_told_from_whichever_thread_it_is_in(pair, told):
    passed = passed_of(pair, told)
    thread = threading.Thread(target=passed.close)
    thread.start()
    thread.join()
    assert len(told) == 1


def test_tls_in_its_place_tells_at_once(pair, told):
    """ssl takes the number out: servers that wrap what accept() gave them end it early for the books only."""
    passed = passed_of(pair, told)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wrapped = context.wrap_socket(passed, server_side=True, do_handshake_on_connect=False)
    assert len(told) == 1
    pair[1].sendall(b"x")
    assert select.select([wrapped], [], [], 60)[0]
    wrapped.close()


def test_a_duplicate_is_a_plain_socket_that_tells_nothing(pair, told):
    passed = passed_of(pair, told)
    passed.settimeout(5)
    with passed.dup() as twin:
        assert twin.gettimeout() == 5
        assert not twin.get_inheritable()
        twin.sendall(b"x")
        assert pair[1].recv(1) == b"x"
    assert told == []
    passed.close()
    assert len(told) == 1


def test_it_cannot_be_copied(pair, told):
    with passed_of(pair, told) as passed, pytest.raises(TypeError):
        copy.copy(passed)


# What it says of itself


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 60)
        server, _ = listener.accept()
    return server, client


@pytest.mark.parametrize("told_of", [{}, {"family": socket.AF_INET, "proto": socket.IPPROTO_TCP}])
def test_its_protocol_is_known(told_of):
    """With a protocol of 0 asyncio does not set TCP_NODELAY."""
    server, client = tcp_pair()
    with client, PassedSocket(server.detach(), 0, lambda _: None, **told_of) as passed:
        assert (passed.family, passed.type, passed.proto) == (
            socket.AF_INET,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
        )
        assert passed.getpeername() == client.getsockname()


def test_its_client_is_whom_the_header_named():
    server, client = tcp_pair()
    with client, PassedSocket(server.detach(), 0, lambda _: None) as passed:
        passed.client = ("192.0.2.1", 5)
        assert passed.getpeername() == ("192.0.2.1", 5)
        passed.client = ""
        assert passed.getpeername() == ""


# What asyncio and uvloop do with it


LOOPS = [pytest.param(asyncio.SelectorEventLoop, id="asyncio")]
if importlib.util.find_spec("uvloop") is not None:
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))


async def end_by(how, passed, client):
    """Serve it as an engine does, then end it so; return when the protocol has heard of it."""
    loop = asyncio.get_running_loop()
    lost = loop.create_future()

    class Protocol(asyncio.Protocol):
        def connection_lost(self, error):
            lost.set_result(None)

    passed.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(Protocol, passed)
    if how == "peer":
        client.close()
    else:
        getattr(transport, how)()
    await lost
    await asyncio.sleep(0)  # the loop closes the socket right after it has told the protocol
    del transport


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
@pytest.mark.parametrize("factory", LOOPS)
def test_a_transport_that_ends_closes_it(told, factory, how):
    server, client = tcp_pair()
    with client, asyncio.Runner(loop_factory=factory) as runner:
        passed = PassedSocket(server.detach(), 0, lambda _: told.append(1))
        runner.run(end_by(how, passed, client))
        assert told == [1]
        assert passed.fileno() == -1


@pytest.mark.parametrize("factory", LOOPS)
def test_a_transport_sets_nodelay(factory):
    """TCP_NODELAY: else each keep-alive answer may wait 40 ms."""
    server, client = tcp_pair()

    async def serve(passed):
        passed.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, passed)
        found = passed.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
        await asyncio.sleep(0)
        return found

    with client, asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(serve(PassedSocket(server.detach(), 0, lambda _: None)))
