"""How a connection ends when its worker dies or its application fails: a part never passes for the whole."""

import os
import signal

import pytest

APP = """
    import asyncio, os, time

    async def app(scope, receive, send):
        path = scope["path"]
        if path == "/fork":
            child = os.fork()
            if not child:
                time.sleep(300)
                os._exit(0)
            with open("child", "w") as file:
                file.write(str(child))
        length = {"/length": b"100", "/whole": b"5"}.get(path)
        headers = [(b"content-length", length)] if length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if path == "/whole":
            await send({"type": "http.response.body", "body": b"whole"})
            return
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        if path in {"/fails", "/length"}:
            await asyncio.sleep(0.05)
            raise RuntimeError("on purpose")
        if path == "/returns":
            return "a value"
        await asyncio.Event().wait()

    async def stream(reader, writer):
        writer.write(b"part")
        await reader.readline()
        raise ConnectionResetError("of another connection")

    async def conn(conn):
        await conn.write(b"part")
        await conn.readline()
        raise ValueError("on purpose")

    def blocking(sock):
        sock.sendall(b"part")
        sock.recv(100)
        raise FileNotFoundError("on purpose")

    async def streams(reader, writer):
        writer.write(b"part")
        await asyncio.Event().wait()

    async def conns(conn):
        await conn.write(b"part")
        await asyncio.Event().wait()

    def blockings(sock):
        sock.sendall(b"part")
        sock.recv(100)
"""


@pytest.fixture
def ends(serve):
    """``ends(name, *flags)``: a server of one of the applications above."""

    def start(name, *flags):
        return serve(f"ends:{name}", "--workers", "1", "--spare", "1", *flags, files={"ends.py": APP})

    return start


def end_child(server):
    """The child that the application has forked, if it has."""
    file = server.folder / "child"
    if file.exists():
        os.kill(int(file.read_text()), signal.SIGKILL)


def test_a_connection_is_reset_though_a_forked_child_holds_it(ends, client):
    server = ends("app", "--graceful-timeout", "1")
    try:
        one = client(server).send("/fork")
        assert one.head()[0] == 200
        server.kill_worker(next(worker["pid"] for worker in server.status()["workers"] if worker["connections"]))
        assert one.cut() == (b"4\r\npart\r\n", True)
    finally:
        end_child(server)


@pytest.mark.parametrize("custody", ["on", "off"])
@pytest.mark.parametrize("name", ["stream", "conn", "blocking"])
def test_a_raw_handler_that_fails_after_a_write_resets_its_connection(ends, client, name, custody):
    """Whatever it raises; an error of another connection, or of a file, is no end of this one."""
    server = ends(name, "--custody", custody)
    one = client(server)
    assert one.sock.recv(10) == b"part"
    one.sock.sendall(b"go on\n")
    assert one.cut() == (b"", True)
    server.wait_log("the application failed on a connection")


@pytest.mark.parametrize("name", ["streams", "conns", "blockings"])
def test_a_raw_handler_whose_time_is_over_resets_its_connection(ends, client, name):
    server = ends(name, "--graceful-timeout", "0.2")
    one = client(server)
    assert one.sock.recv(10) == b"part"
    server.kill(signal.SIGTERM)
    assert one.cut() == (b"", True)
    assert server.wait_end() == 0


def test_an_answer_to_http_1_0_that_fails_is_reset(ends, client):
    """Its end is told by that of the connection alone."""
    server = ends("app")
    one = client(server)
    one.sock.sendall(b"GET /fails HTTP/1.0\r\n\r\n")
    data, reset = one.cut()
    assert reset
    assert data.startswith(b"HTTP/1.1 200")
    with_length = client(server)
    with_length.sock.sendall(b"GET /length HTTP/1.1\r\nhost: x\r\n\r\n")
    assert with_length.cut()[0].endswith(b"part")  # of 100 bytes: a client can tell


@pytest.mark.parametrize("custody", ["on", "off"])
def test_a_head_that_fails_after_its_first_part_has_sent_its_head(ends, client, custody):
    one = client(ends("app", "--custody", custody)).send("/fails", "HEAD")
    assert one.head()[0] == 200
    assert one.rest() == b""


@pytest.mark.parametrize("flags", [("--custody", "off"), ("--access-log", "log")])
def test_a_value_that_an_application_returns_is_reported(ends, client, flags):
    server = ends("app", *flags)
    client(server).send("/returns").rest()
    server.wait_log("the application returned 'a value', not None: GET /returns")


def test_the_second_answer_is_cut_by_a_reset_though_nobody_knows_where_requests_end(ends, client):
    """Behind a request for an upgrade that did not happen, the connection is opaque."""
    server = ends("app")
    one = client(server)
    one.sock.sendall(b"GET /whole HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n")
    assert one.answer() == (200, "whole")
    one.sock.sendall(b"GET / HTTP/1.0\r\nhost: x\r\n\r\n")
    assert one.head()[0] == 200
    server.kill_worker(next(worker["pid"] for worker in server.status()["workers"] if worker["connections"]))
    assert one.cut() == (b"part", True)
