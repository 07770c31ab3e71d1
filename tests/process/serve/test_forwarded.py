"""Behind a proxy: the application and the access log see the client that a trusted proxy names."""

import json

import pytest

from .test_flags_of_others import SHOW

FORWARDED = {"x_forwarded_for": "198.51.100.9, 192.0.2.1", "x_forwarded_proto": "https"}
PROXY = b"PROXY TCP4 %b 127.0.0.1 5000 80\r\n"


@pytest.fixture
def shown(serve):
    def start(*flags, app="show:app", **more):
        return serve(app, "--access-log", "log", *flags, files={"show.py": SHOW}, **more)

    return start


def ask(connection, **headers):
    connection.send("/a", **headers)
    status, head = connection.head()
    assert status == 200
    if "content-length" in head:
        return json.loads(connection.body(head))
    text = connection._file.read(int(connection._file.readline(), 16))
    assert connection._file.read(2) == b"\r\n"
    assert connection._file.read(5) == b"0\r\n\r\n"
    return json.loads(text)


def test_only_a_trusted_peer_is_believed_although_the_headers_are_the_same(shown, client):
    server = shown("--workers", "1")
    trusted, other = client(server), client(server, "127.0.0.2")
    for _ in range(3):  # the worker knows the headers from the second time on
        found = ask(trusted, **FORWARDED)
        assert (found["client"], found["scheme"]) == (["192.0.2.1", 0], "https")
        found = ask(other, **FORWARDED)
        assert (found["client"][0], found["scheme"]) == ("127.0.0.2", "http")
    trusted.close()
    other.close()
    server.stop()
    lines = (server.folder / "log").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["192.0.2.1", "127.0.0.2"] * 3


def test_a_unix_socket_is_trusted_and_a_list_without_it_is_not(shown, client):
    for flags, found in {(): "192.0.2.1", ("--forwarded-allow-ips", "127.0.0.1"): None}.items():
        server = shown(*flags, "--workers", "1", bind=("unix:s",))
        told = ask(client(server, address=str(server.folder / "s")), **FORWARDED)
        assert (told["client"] or [None])[0] == found
        server.stop()


def test_the_peer_is_the_one_that_a_proxy_header_names(shown, client):
    server = shown("--workers", "1", "--proxy-protocol", "--forwarded-allow-ips", "10.0.0.0/8")
    for peer, found in {b"10.0.0.1": "192.0.2.1", b"127.0.0.1": "127.0.0.1"}.items():
        connection = client(server)
        connection.sock.sendall(PROXY % peer)
        assert ask(connection, **FORWARDED)["client"][0] == found


def test_a_wsgi_application_sees_the_client_the_scheme_and_the_host(shown, client):
    server = shown("--workers", "1", "--forwarded-headers", "forwarded", app="show:wsgi")
    found = ask(client(server), forwarded='for="[2001:db8::1]";proto=https;host=shop.example', **FORWARDED)
    assert found["REMOTE_ADDR"] == "2001:db8::1"
    assert found["wsgi.url_scheme"] == "https"
    assert found["HTTP_HOST"] == "shop.example"


@pytest.mark.parametrize("custody", ["on", "off"])
def test_a_websocket_has_the_client_and_the_scheme(serve, open_websocket, custody):
    app = """
        async def app(scope, receive, send):
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.send", "text": f"{scope['client'][0]} {scope['scheme']}"})
    """
    server = serve("app:app", "--custody", custody, "--access-log", "log", files={"app.py": app})
    assert open_websocket(server, "/", **FORWARDED).hear() == "192.0.2.1 wss"
    server.stop()
    assert (server.folder / "log").read_text().startswith("192.0.2.1 ")
