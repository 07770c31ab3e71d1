"""How an application is called: each interface, recognised by itself or named, and where it is looked for."""

import contextlib
import json
import socket

import pytest

WSGI = """
    import json, os

    def app(environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
        told = {key: value for key, value in environ.items() if isinstance(value, str)} | {"body": body}
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]
"""
UPPER = """
    import socket, ssl

    async def stream(reader, writer):
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        async for line in reader:
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    def blocking(sock):
        assert sock.gettimeout() is None
        assert sock.getpeername()[0] == "127.0.0.1"
        with sock.makefile("rwb", 0) as stream:
            for line in stream:
                stream.write(line.upper())
"""
PLAIN_ASGI = """
    async def app(scope, receive, send):
        assert scope["type"] == "http", scope["type"]
        body = NAME.encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""
NAMED = "    NAME = __name__\n" + PLAIN_ASGI


def test_a_wsgi_application_gets_a_right_environ(serve):
    server = serve(files={"app.py": WSGI}, bind=["127.0.0.1:0", "[::1]:0"])
    host, port = server.address
    request = (
        "POST /caf%C3%A9/x?a=1&b=%20 HTTP/1.1\r\nHost: shop.example\r\nX-Thing: one\r\n"
        "Content-Type: text/plain\r\n"
        "Content-Length: 5\r\nConnection: close\r\n\r\nhello"
    )
    with socket.create_connection((host, port)) as sock, sock.makefile("rb") as stream:
        client_port = sock.getsockname()[1]
        sock.sendall(request.encode())
        head, _, body = stream.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    told = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    assert (
        told.items()
        >= {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/caf\xc3\xa9/x",
            "QUERY_STRING": "a=1&b=%20",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": host,
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "shop.example",
            "HTTP_X_THING": "one",
            "CONTENT_TYPE": "text/plain",
            "CONTENT_LENGTH": "5",
            "wsgi.url_scheme": "http",
            "body": "hello",
        }.items()
    )
    assert (int(told["SERVER_PORT"]), int(told["REMOTE_PORT"])) == (port, client_port)


@pytest.mark.parametrize("kind", ["stream", "blocking"])
def test_a_handler_of_bytes_serves_many_connections_at_once(serve, kind):
    server = serve(f"app:{kind}", "--workers", "1", files={"app.py": UPPER})
    held = [server.connect() for _ in range(5)]
    try:
        for round in range(2):
            for index, sock in enumerate(held):
                sock.sendall(b"line %d of %d\n" % (round, index))
            for index, sock in enumerate(held):
                assert sock.recv(100) == b"LINE %d OF %d\n" % (round, index)
        server.wait_status(lambda status: status["workers"][0]["requests"] == 5)
    finally:
        for sock in held:
            sock.close()
    server.wait_connections(live=0, finished=5)
    assert server.stop() == 0


DIVIDES = """
    async def stream(reader, writer):
        writer.write(b"%d" % (1 // int(await reader.readline())))

    def blocking(sock):
        sock.sendall(b"%d" % (1 // int(sock.recv(10))))
"""


@pytest.mark.parametrize("kind", ["stream", "blocking"])
def test_a_handler_that_raises_is_logged_and_the_next_connection_is_served(serve, kind):
    server = serve(f"app:{kind}", "--workers", "1", files={"app.py": DIVIDES})
    with contextlib.suppress(ConnectionResetError):
        assert server.exchange(b"0\n") == b""
    assert server.exchange(b"1\n") == b"1"
    server.wait_log("the application failed on a connection")
    assert server.wait_log("ZeroDivisionError").count("Traceback") == 1


def test_an_application_is_found_in_a_folder_under_a_dotted_name(serve, tmp_path):
    package = tmp_path / "elsewhere" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text("class Holder:\n    NAME = __name__\n" + "NAME = __name__\n")
    text = PLAIN_ASGI.replace("\n    ", "\n")
    (package / "main.py").write_text(f"NAME = __name__\n{text}\nclass Holder:\n    app = staticmethod(app)\n")
    server = serve("shop.main:Holder.app", "--app-dir", str(package.parent), "--workers", "1")
    assert server.get() == (200, "shop.main")


def test_a_factory_makes_the_application(serve):
    text = NAMED + "\n    def make():\n        return app\n"
    server = serve("app:make", "--factory", "--workers", "1", files={"app.py": text})
    assert server.get() == (200, "app")


def test_an_application_whose_signature_tells_nothing_needs_its_interface(serve):
    text = NAMED + "\n    hidden = lambda *arguments: app(*arguments)\n"
    server = serve("app:hidden", "--workers", "1", files={"app.py": text}, ready=False)
    assert server.wait_end() == 1
    assert "say which with --interface" in server.log()
    assert "Traceback" not in server.log()
    server = serve("app:hidden", "--interface", "asgi", "--workers", "1", files={"app.py": text})
    assert server.get() == (200, "app")


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("nix:app", {}, "there is no module 'nix'"),
        ("app:nix", {}, "module 'app' has no 'nix'"),
        ("app:make", {"app.py": "def make(): pass"}, "add --factory"),
        ("app:app", {"app.py": "app = 3"}, "'app:app' cannot be called: it is of type int"),
    ],
)
def test_an_application_that_cannot_be_found_ends_the_server_with_one_sentence(serve, name, files, said):
    server = serve(name, "--workers", "1", files=files, ready=False)
    assert server.wait_end() == 1
    last = server.log().splitlines()[-2:]
    assert any(line.startswith("fdpass serve: ") and said in line for line in last)
    assert "Traceback" not in server.log()


def test_the_welcome_page_says_who_served_it_as_text_or_html(serve):
    server = serve(None, "--workers", "1")
    (pid,) = server.workers()
    status, text = server.get()
    assert (status, f"request 1 of worker {pid}" in text) == (200, True)
    status, page = server.get("/any?thing", {"Accept": "text/html,*/*"})
    assert status == 200
    assert page.startswith("<!doctype html>")
    assert f"Worker <b>{pid}</b> served you; it was its request 2." in page
    head = server.exchange(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")
