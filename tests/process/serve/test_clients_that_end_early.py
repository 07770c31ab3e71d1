"""Clients that end their side before the response, or that still send after it: each gets its response whole."""

import re
import socket

import pytest

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    seconds, size = 0.05, 2
    if scope["path"] == "/large":  # answers without receiving the body
        seconds, size = 0, 1_000_000
    await asyncio.sleep(seconds)
    headers = [(b"content-length", b"%d" % size)]
    if scope["path"] == "/large":
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * size})
"""
CUSTODY = pytest.mark.parametrize("custody", ["on", "off"])


def rest(sock):
    found = b""
    while data := sock.recv(1 << 16):
        found += data
    return found.partition(b"\r\n\r\n")


@pytest.fixture
def start(serve, tmp_path):
    (tmp_path / "early.py").write_text(APP)
    return lambda *flags, **options: serve(
        "early:app", "--workers", "2", "--app-dir", str(tmp_path), *flags, **options
    )


@CUSTODY
@pytest.mark.parametrize("unix", [False, True])
def test_a_client_that_half_closes_gets_its_response(start, client, tmp_path, custody, unix):
    """The handler takes 50 ms; gunicorn answers, too."""
    path = str(tmp_path / "socket")
    server = start("--custody", custody, **({"bind": [f"unix:{path}"]} if unix else {}))
    for count in (1, 3):
        one = client(server, address=path if unix else None)
        one.sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * count)
        one.sock.shutdown(socket.SHUT_WR)
        assert rest(one.sock)[0].startswith(b"HTTP/1.1 200 OK")
    server.wait_connections(live=0, finished=2, lost=0)
    assert "WARN" not in server.log()


@CUSTODY
def test_a_large_response_arrives_whole_although_the_body_of_its_request_is_not_read(start, client, custody):
    server = start("--custody", custody)
    one = client(server)
    one.sock.sendall(b"POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + bytes(1000))
    one.sock.setblocking(False)
    sent = 0
    try:
        while sent < 2_000_000:
            sent += one.sock.send(bytes(10_000))
    except BlockingIOError:
        pass
    one.sock.settimeout(30)
    head, _, body = rest(one.sock)
    assert (head.split(b" ")[1], len(body)) == (b"200", 1_000_000)
    one.close()
    server.wait_connections(live=0, finished=1, lost=0)


@CUSTODY
def test_bodies_and_heads_that_are_too_large_are_refused_and_the_client_reads_why(start, client, custody):
    server = start("--custody", custody, "--max-body-size", "1K", "--max-header-size", "8K")
    for head, status in (
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"431"),
    ):
        one = client(server)
        one.sock.sendall(head + b"x" * 2_000_000)
        head, _, body = rest(one.sock)
        assert (head.split(b" ")[1], len(body) > 10) == (status, True)
        one.close()
    server.wait_connections(live=0, finished=2, lost=0)
    assert re.search(r"client 127.0.0.1:\d+ gets a 413: a body has more than 1024 bytes", server.log())
