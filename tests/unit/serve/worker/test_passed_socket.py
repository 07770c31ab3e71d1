"""`PassedSocket`: however a passed connection ends, its end is reported, once."""

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

from fdpass.serve.worker.passed_socket import PassedSocket, unmapped


@pytest.fixture
def reports():
    """A thread number for each report of an end."""
    return []


@pytest.fixture
def pair():
    """A passed connection's descriptor, and its client."""
    ours, client = socket.socketpair()
    client.settimeout(60)
    yield ours.detach(), client
    client.close()


def passed_of(pair, reports):
    return PassedSocket(pair[0], 0, lambda _: reports.append(threading.get_ident()))


def test_close_reports_once(pair, reports):
    passed = passed_of(pair, reports)
    passed.close()
    passed.close()
    del passed
    gc.collect()
    assert len(reports) == 1
    assert pair[1].recv(1) == b""


def test_the_descriptor_is_closed_before_the_report(pair):
    """Else the dispatcher could use the slot, and the room for a descriptor, too early."""
    numbers = []
    passed = PassedSocket(pair[0], 0, lambda _: numbers.append(passed.fileno()))
    passed.close()
    assert numbers == [-1]


def test_the_end_of_a_with_block_reports(pair, reports):
    with passed_of(pair, reports):
        assert reports == []
    assert len(reports) == 1


def test_a_file_made_of_the_socket_keeps_it_open(pair, reports):
    """socketserver, wsgiref and others close the socket first, then its files."""
    passed = passed_of(pair, reports)
    reading, writing = passed.makefile("rb"), passed.makefile("wb")
    passed.close()
    writing.write(b"x")
    writing.flush()
    assert pair[1].recv(1) == b"x"
    writing.close()
    assert reports == []
    reading.close()
    assert len(reports) == 1


def test_detach_reports_for_nobody_sees_the_end_afterwards(pair, reports):
    passed = passed_of(pair, reports)
    number = passed.detach()
    assert len(reports) == 1
    os.close(number)
    passed.close()
    assert len(reports) == 1


def test_a_socket_that_is_collected_is_closed_and_reports(pair, reports):
    passed = passed_of(pair, reports)
    del passed
    gc.collect()
    assert len(reports) == 1
    assert pair[1].recv(1) == b""


def test_a_close_in_another_thread_reports(pair, reports):
    passed = passed_of(pair, reports)
    thread = threading.Thread(target=passed.close)
    thread.start()
    thread.join()
    assert len(reports) == 1


def test_wrapping_the_socket_in_tls_reports_an_end_at_once(pair, reports):
    """ssl detaches the descriptor: the connection goes on, but counts as ended."""
    passed = passed_of(pair, reports)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wrapped = context.wrap_socket(passed, server_side=True, do_handshake_on_connect=False)
    assert len(reports) == 1
    pair[1].sendall(b"x")
    assert select.select([wrapped], [], [], 60)[0]
    wrapped.close()


def test_a_duplicate_is_a_plain_socket_that_reports_nothing(pair, reports):
    passed = passed_of(pair, reports)
    passed.settimeout(5)
    with passed.dup() as twin:
        assert twin.gettimeout() == 5
        assert not twin.get_inheritable()
        twin.sendall(b"x")
        assert pair[1].recv(1) == b"x"
    assert reports == []
    passed.close()
    assert len(reports) == 1


def test_a_passed_socket_cannot_be_copied(pair, reports):
    with passed_of(pair, reports) as passed, pytest.raises(TypeError):
        copy.copy(passed)


# Its family, protocol and client


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 60)
        server, _ = listener.accept()
    return server, client


@pytest.mark.parametrize("given", [{}, {"family": socket.AF_INET, "proto": socket.IPPROTO_TCP}])
def test_the_socket_knows_its_protocol(given):
    """With a protocol of 0 asyncio does not set TCP_NODELAY."""
    server, client = tcp_pair()
    with client, PassedSocket(server.detach(), 0, lambda _: None, **given) as passed:
        assert (passed.family, passed.type, passed.proto) == (
            socket.AF_INET,
            socket.SOCK_STREAM,
            socket.IPPROTO_TCP,
        )
        assert passed.getpeername() == client.getsockname()


def test_getpeername_gives_the_client_that_the_header_named():
    server, client = tcp_pair()
    with client, PassedSocket(server.detach(), 0, lambda _: None) as passed:
        passed.client = ("192.0.2.1", 5)
        assert passed.getpeername() == ("192.0.2.1", 5)
        passed.client = ""
        assert passed.getpeername() == ""


# In transports of asyncio and uvloop


LOOPS = [pytest.param(asyncio.SelectorEventLoop, id="asyncio")]
if importlib.util.find_spec("uvloop") is not None:
    import uvloop

    LOOPS.append(pytest.param(uvloop.new_event_loop, id="uvloop"))


async def end_by(how, passed, client):
    """Serve the connection as an engine does and end it; return when the protocol has been told."""
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
def test_a_transport_that_ends_closes_the_socket(reports, factory, how):
    server, client = tcp_pair()
    with client, asyncio.Runner(loop_factory=factory) as runner:
        passed = PassedSocket(server.detach(), 0, lambda _: reports.append(1))
        runner.run(end_by(how, passed, client))
        assert reports == [1]
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


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("::ffff:192.0.2.1", 80, 0, 0), ("192.0.2.1", 80)),
        (("::1", 80, 0, 0), ("::1", 80, 0, 0)),
        (("::ffff:0:1", 80, 0, 0), ("::ffff:0:1", 80, 0, 0)),
        (("192.0.2.1", 80), ("192.0.2.1", 80)),
        ("/run/app.sock", "/run/app.sock"),
        (b"\0name", b"\0name"),
        (None, None),
    ],
)
def test_an_ipv4_client_of_an_ipv6_listener_has_its_ipv4_address(address, expected):
    assert unmapped(address) == expected
