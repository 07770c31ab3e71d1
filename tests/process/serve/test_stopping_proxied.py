"""A graceful stop answers clients whose PROXY header no worker has read yet, and waits a second for headers."""

import contextlib
import signal
import time

import pytest

HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n"
WAYS = pytest.mark.parametrize(
    "flags",
    [(), ("--custody", "off"), ("--loop", "asyncio")],
    ids=["custody", "no custody", "asyncio"],
)


def connected(client, server, header=HEADER):
    one = client(server)
    one.sock.sendall(header)
    return one


@WAYS
def test_clients_in_the_backlog_are_answered_by_workers_that_read_handoff_and_end_together(
    serve, client, tools, flags
):
    server = serve("app:app", "--proxy-protocol", *flags)
    workers = server.workers()
    assert server.address  # who is stopped cannot say it
    with contextlib.ExitStack() as held:
        with server.paused():
            asked = [connected(client, server).send(connection="close") for _ in range(20)]
            server.kill(signal.SIGTERM)
            for pid in workers:
                held.enter_context(tools.stopped(pid))
        server.wait_log("stopping:")
        assert server.status()["workers"]  # by now the dispatcher has done what it can
    assert {one.answered() for one in asked} <= set(workers)
    assert server.wait_end() == 0


@WAYS
def test_a_header_and_a_request_that_come_just_after_the_stop_are_answered(serve, client, flags):
    server = serve("app:app", "--proxy-protocol", *flags)
    one = connected(client, server, b"")
    server.wait_connections(live=1, handed=1)
    server.kill(signal.SIGTERM)
    server.wait_log("stopping:")
    one.sock.sendall(HEADER)
    one.send(connection="close")
    assert one.answered()
    assert server.wait_end() == 0


@WAYS
@pytest.mark.parametrize("there", [0, 20])
def test_a_header_that_does_not_come_delays_the_stop_for_a_moment_only(serve, client, flags, there):
    server = serve("app:app", "--proxy-protocol", "--graceful-timeout", "60", *flags)
    one = connected(client, server, HEADER[:there])
    server.wait_connections(live=1, handed=1)
    began = time.monotonic()
    server.kill(signal.SIGTERM)
    assert server.wait_end() == 0
    assert time.monotonic() - began < 8  # the time for a header is 10 seconds
    with contextlib.suppress(ConnectionResetError):
        assert one.sock.recv(1) == b""
