"""The PROXY protocol: who the client is, as told by the proxy, to each kind of application."""

import contextlib
import json
import socket
import struct

import pytest

APP = """
    import json

    async def app(scope, receive, send):
        body = json.dumps([scope["client"], scope["scheme"]]).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def stream(reader, writer):
        line = await reader.readline()
        writer.write(json.dumps(writer.get_extra_info("peername")).encode() + b" " + line)

    def blocking(sock):
        sock.sendall(json.dumps(sock.getpeername()).encode() + b" " + sock.recv(100))

    def main(listener):
        while True:
            sock, address = listener.accept()
            with sock:
                sock.sendall(json.dumps(address).encode() + b" " + sock.recv(100))
"""
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.9 56324 443\r\n"
V1_6 = b"PROXY TCP6 2001:db8::1 2001:db8::9 56324 443\r\n"
TLS_FIELD = b"\x20\x00\x05\x01\0\0\0\0"


def version2(client, tail=b""):
    """A header of version 2 for a client in IPv4."""
    block = (
        socket.inet_aton(client[0]) + socket.inet_aton("198.51.100.9") + struct.pack(">HH", client[1], 443) + tail
    )
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack(">BBH", 0x21, 0x11, len(block)) + block


LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
GET = b"GET / HTTP/1.0\r\n\r\n"


def test_an_asgi_application_sees_the_client_of_the_proxy(serve):
    server = serve("app:app", "--workers", "1", "--proxy-protocol", files={"app.py": APP})

    def told(header):
        return json.loads(server.exchange(header + GET).split(b"\r\n\r\n")[1])

    assert told(V1) == [["192.0.2.1", 56324], "http"]
    assert told(V1_6) == [["2001:db8::1", 56324], "http"]
    assert told(version2(("192.0.2.7", 7))) == [["192.0.2.7", 7], "http"]
    assert told(version2(("192.0.2.7", 7), TLS_FIELD)) == [["192.0.2.7", 7], "https"]
    assert told(LOCAL)[0][0] == "127.0.0.1"
    assert told(b"PROXY UNKNOWN\r\n")[0][0] == "127.0.0.1"


@pytest.mark.parametrize("kind", ["stream", "blocking", "main"])
def test_other_applications_see_it_as_the_peers_name(serve, kind):
    server = serve(f"app:{kind}", "--workers", "1", "--proxy-protocol", files={"app.py": APP})
    assert server.exchange(V1 + b"x\n") == b'["192.0.2.1", 56324] x\n'
    assert server.exchange(version2(("192.0.2.7", 7)) + b"y\n") == b'["192.0.2.7", 7] y\n'


def test_a_header_in_pieces_is_read_to_its_end_and_no_further(serve):
    server = serve("app:blocking", "--workers", "1", "--proxy-protocol", files={"app.py": APP})
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(V1)):
            sock.sendall(V1[index : index + 1])
        sock.sendall(b"and then\n")
        assert stream.read() == b'["192.0.2.1", 56324] and then\n'


def test_a_connection_without_a_header_is_refused_while_others_are_served(serve):
    server = serve("app:app", "--workers", "1", "--proxy-protocol", files={"app.py": APP})
    with server.connect() as silent, server.connect() as half:
        half.sendall(V1[:20])
        server.wait_connections(accepted=2)
        for garbage in (GET, b"PROXY TCP4 nonsense\r\n", b"\0" * 5000, LOCAL[:12] + b"\x31\x11\0\0"):
            with contextlib.suppress(ConnectionError):
                assert server.exchange(garbage) == b""
            assert b"192.0.2.1" in server.exchange(V1 + GET)
        server.wait_connections(accepted=10, finished=8, live=2)
        half.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):  # a reset, for what was sent is not read
            assert half.recv(10) == b""
        server.wait_log("a connection without a PROXY header was closed", 5)
        assert silent.fileno() > 0
    server.wait_connections(finished=10)
    assert "Traceback" not in server.log()


def test_the_access_log_has_the_client_of_the_proxy(serve):
    server = serve("app:app", "--workers", "1", "--proxy-protocol", "--access-log", "-", files={"app.py": APP})
    server.exchange(V1 + GET)
    server.wait_log("192.0.2.1 - - [")
