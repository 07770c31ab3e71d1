"""A retiring worker tells the clients whose streams end with it to connect again: one by one, over its time."""

import contextlib
import itertools
import select
import time

import pytest

from ._reload_helpers import all_ready

SECONDS = 4
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CLOSE = b"\x88\x02" + (1012).to_bytes(2, "big")
STREAMS = """
import asyncio

async def app(scope, receive, send):
    kind = b"text/event-stream" if scope["path"] == "/events" else b"text/plain"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for number in range(32 if kind == b"text/plain" else 1_000_000):
        await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True})
        await asyncio.sleep(0.1)
    await send({"type": "http.response.body", "body": b""})
"""


@pytest.fixture
def many():
    """Clients that are closed at the end of the test."""
    with contextlib.ExitStack() as held:
        yield lambda server, count: [held.enter_context(server.connect()) for _ in range(count)]


def ends(socks):
    """Read all connections to their end. Returns all data and the time of the end, in the order of the ends."""
    poller, by_number = select.poll(), {sock.fileno(): sock for sock in socks}
    data, found = dict.fromkeys(by_number, b""), []
    for number in by_number:
        poller.register(number, select.POLLIN)
    while by_number:
        for number, _ in poller.poll():
            some = by_number[number].recv(65536)  # a reset fails
            data[number] += some
            if CLOSE in some:
                by_number[number].sendall(b"\x88\x82\x00\x00\x00\x00" + CLOSE[2:])  # masked with zeros
            elif not some:
                poller.unregister(number)
                del by_number[number]
                found.append((data[number], time.monotonic()))
    return found


def assert_spread(times, began):
    """The ends are about evenly distributed over the time; an overloaded machine delays some."""
    times = [time - began for time in times]
    assert times[0] < SECONDS / 2
    assert SECONDS * 0.75 < times[-1] < SECONDS + 3
    middle = sum(1 for each in times if SECONDS * 0.2 < each < SECONDS * 0.8)
    assert middle > len(times) / 3
    assert len(times) == 1 or max(b - a for a, b in itertools.pairwise(times)) < SECONDS / 2


@pytest.mark.parametrize("custody", ["on", "off"])
def test_websockets_are_told_to_connect_again_one_by_one(serve, many, custody):
    server = serve("app:app", "--workers", "1", "--graceful-timeout", str(SECONDS), "--custody", custody)
    (worker,) = server.workers()
    socks = many(server, 40)
    for sock in socks:
        sock.sendall(HANDSHAKE)
    for sock in socks:
        opened = b""
        while str(worker).encode() not in opened:
            opened += sock.recv(1000)
    server.cli("reload")
    began = time.monotonic()
    found = ends(socks)
    assert all(data.endswith(CLOSE) for data, _ in found)
    assert_spread([time for _, time in found], began)
    server.wait_status(all_ready(1, 2))
    log = server.wait_log(f"worker {worker} has retired")
    if custody == "on":
        server.wait_connections(live=0, lost=0, told_to_reconnect=40)
    assert f"ending 40 WebSockets one by one within {SECONDS} s (--graceful-timeout)" in log
    assert "did not end in time" not in log
    assert "Traceback" not in log


def test_event_streams_are_cut_one_by_one_between_events_and_downloads_have_the_whole_time(serve, many):
    flags = ("--workers", "1", "--lifespan", "off", "--graceful-timeout", str(SECONDS))
    server = serve("streams:app", *flags, files={"streams.py": STREAMS})
    (worker,) = server.workers()
    streams, downloads = many(server, 20), many(server, 5)
    for sock in streams:
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    for sock in downloads:
        sock.sendall(b"GET /download HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    server.wait_status(lambda status: status["workers"][0]["requests"] == 25)
    server.cli("reload")
    began = time.monotonic()
    found = ends(streams + downloads)
    whole = [data for data, _ in found if data.endswith(b"0\r\n\r\n")]
    cut = [(data, time) for data, time in found if not data.endswith(b"0\r\n\r\n")]
    assert (len(whole), len(cut)) == (5, 20)
    assert all(b"text/plain" in data and b"data: 31\n\n" in data for data in whole)
    assert all(data.endswith(b"\n\n\r\n") for data, _ in cut)
    assert_spread([time for _, time in cut], began)
    log = server.wait_log(f"worker {worker} has retired")
    assert f"ending 20 event streams one by one within {SECONDS} s (--graceful-timeout)" in log
    assert "did not end in time" not in log
    assert "Traceback" not in log
