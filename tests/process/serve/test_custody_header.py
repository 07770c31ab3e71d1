"""A PROXY header that has come in part, or not at all: its connection goes on in another worker."""

import fcntl
import itertools
import json
import struct
import termios

import pytest

APP = """
    import json

    async def app(scope, receive, send):
        body = json.dumps(scope["client"]).encode()
        headers = [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def stream(reader, writer):
        await reader.readline()
        writer.write(json.dumps(writer.get_extra_info("peername")).encode())

    async def conn(conn):
        await conn.readline()
        await conn.commit(b"", json.dumps(conn.client).encode())

    def blocking(sock):
        sock.recv(100)
        sock.sendall(json.dumps(sock.getpeername()).encode())
"""
HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n"
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
CLIENT = ["192.0.2.1", 56324]


def unread(one):
    """Bytes that this client of a Unix socket has sent and nobody has read (SIOCOUTQ; 0 is exact)."""
    return struct.unpack("i", fcntl.ioctl(one.sock, termios.TIOCOUTQ, bytes(4)))[0]


def kill(server):
    """End the worker that has the connection."""
    server.kill_worker(next(worker["pid"] for worker in server.status()["workers"] if worker["connections"]))


WAYS = {
    "reload": lambda server: server.cli("reload"),
    "kill": kill,
}


# Behind its header, a connection of the other two interfaces stays with its worker.
CASES = [
    *itertools.product(["app", "conn"], [0, 20, len(HEADER)]),
    *itertools.product(["stream", "blocking"], [0, 20]),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "there"), CASES)
def test_it_goes_on_whatever_has_come_of_the_header(serve, client, kind, way, there):
    flags = ("--workers", "1", "--spare", "1", "--proxy-protocol")
    server = serve(f"app:{kind}", *flags, files={"app.py": APP})
    one = client(server)
    one.sock.sendall(HEADER[:there])
    server.wait_connections(live=1, handed=1)
    server.wait_read(one)
    WAYS[way](server)
    server.wait_connections(live=1, rehanded=1)
    one.sock.sendall(HEADER[there:] + GET)
    assert json.loads(one.rest().rpartition(b"\r\n")[2]) == CLIENT
    server.wait_connections(accepted=1, live=0, finished=1, lost=0)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_over_a_unix_socket_too_and_after_several_deaths(serve, client, tools, tmp_path, loop):
    path = str(tmp_path / "unix")
    flags = ("--workers", "1", "--spare", "1", "--proxy-protocol", "--loop", loop)
    server = serve("app:app", *flags, files={"app.py": APP}, bind=[f"unix:{path}"])
    one = client(server, address=path)
    for count, part in enumerate((HEADER[:1], HEADER[1:20], HEADER[20:30]), 1):
        one.sock.sendall(part)
        server.wait_connections(live=1, rehanded=count - 1)
        tools.wait_until(lambda: not unread(one), "all is read: ", server.log)
        kill(server)
        server.wait_connections(live=1, rehanded=count)
    server.cli("reload")
    one.sock.sendall(HEADER[30:] + GET)
    assert json.loads(one.rest().rpartition(b"\r\n")[2]) == CLIENT
    server.wait_connections(accepted=1, live=0, lost=0)


def test_without_custody_a_reload_waits_for_the_header(serve, client):
    flags = ("--workers", "1", "--proxy-protocol", "--custody", "off")
    server = serve("app:app", *flags, files={"app.py": APP})
    one = client(server)
    one.sock.sendall(HEADER[:20])
    server.wait_connections(live=1)
    server.wait_read(one)
    server.cli("reload")
    one.sock.sendall(HEADER[20:] + GET)
    assert json.loads(one.rest().rpartition(b"\r\n")[2]) == CLIENT
