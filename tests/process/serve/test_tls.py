"""TLS: pages and WebSockets over it, client certificates, and certificates that a reload reads again."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from websockets.sync.client import connect

from ._keeper_here import needs_keeper

SUBJECTS = "subjectAltName=DNS:localhost,IP:127.0.0.1"
STREAM = """
    async def stream(reader, writer):
        writer.write(b"hello " + await reader.readline())
        await writer.drain()
        writer.close()

    def blocking(sock):
        sock.sendall(b"hello " + sock.recv(100))
"""
SCHEME = """
    import json

    async def app(scope, receive, send):
        body = json.dumps([scope["scheme"], scope["http_version"]]).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def certificate(tmp_path):
    """``certificate(name)``: a certificate that its own key has signed, and the key: two paths."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")

    def make(name):
        key, cert = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        command = [tool, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-keyout", key, "-out", cert, "-days", "1", "-subj", f"/CN={name}", "-addext", SUBJECTS]
        subprocess.run(command, check=True, capture_output=True)
        return str(cert), str(key)

    return make


def wrapped(server, authority, *, client=None):
    """A TLS connection to the server; the caller closes it."""
    context = ssl.create_default_context(cafile=authority)
    if client:
        context.load_cert_chain(*client)
    with contextlib.ExitStack() as held:
        sock = held.enter_context(server.connect())
        made = context.wrap_socket(sock, server_hostname="localhost")
        held.pop_all()
        return made


def exchange(server, authority, data=b"GET / HTTP/1.0\r\n\r\n", **options):
    """All that comes back, and whom the server's certificate names."""
    with wrapped(server, authority, **options) as sock, sock.makefile("rb") as stream:
        sock.sendall(data)
        subject = dict(field[0] for field in sock.getpeercert()["subject"])
        return stream.read(), subject["commonName"]


def test_https_pages_and_wss(serve, certificate):
    cert, key = certificate("one")
    server = serve("app:app", "--workers", "1", "--tls-cert", cert, "--tls-key", key)
    page, name = exchange(server, cert)
    assert (page.split(b"\r\n\r\n")[1].decode(), name) == (str(server.workers()[0]), "one")
    context = ssl.create_default_context(cafile=cert)
    with connect(f"wss://127.0.0.1:{server.address[1]}/", ssl=context) as websocket:
        assert websocket.recv() == str(server.workers()[0])
        websocket.send("over TLS")
        assert websocket.recv() == "over TLS"
    with contextlib.suppress(ConnectionError):
        assert server.exchange(b"GET / HTTP/1.0\r\n\r\n") == b""  # no TLS: no answer
    server.wait_connections(live=0, finished=3)
    assert "Traceback" not in server.log()


def test_the_application_is_told_of_https_and_alpn_chooses_http_1_1(serve, certificate):
    cert, key = certificate("one")
    server = serve("app:app", "--workers", "1", "--tls-cert", cert, "--tls-key", key, files={"app.py": SCHEME})
    page, _ = exchange(server, cert)
    assert json.loads(page.split(b"\r\n\r\n")[1]) == ["https", "1.0"]
    context = ssl.create_default_context(cafile=cert)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with server.connect() as sock, context.wrap_socket(sock, server_hostname="localhost") as made:
        assert made.selected_alpn_protocol() == "http/1.1"


def test_wsgi_sends_files_over_tls(serve, certificate, tmp_path):
    cert, key = certificate("localhost")
    (tmp_path / "big").write_bytes(bytes(range(256)) * 8192)
    text = """
        import os
        def app(environ, start_response):
            file = open(os.environ["BIG"], "rb")
            file.seek(5)
            start_response("200 OK", [("X-Scheme", environ["wsgi.url_scheme"])])
            return environ["wsgi.file_wrapper"](file)
    """
    flags = ("--workers", "1", "--tls-cert", cert, "--tls-key", key)
    server = serve("app:app", *flags, files={"app.py": text}, env={"BIG": str(tmp_path / "big")})
    head, _, body = exchange(server, cert)[0].partition(b"\r\n\r\n")
    assert b"x-scheme: https" in head
    assert body == bytes(range(256))[5:] + bytes(range(256)) * 8191


@pytest.mark.parametrize("kind", ["stream", "blocking"])
def test_handlers_of_bytes_speak_tls_too(serve, certificate, kind):
    cert, key = certificate("one")
    flags = ("--workers", "1", "--tls-cert", cert, "--tls-key", key)
    server = serve(f"app:{kind}", *flags, files={"app.py": STREAM})
    assert exchange(server, cert, b"you\n") == (b"hello you\n", "one")
    with server.connect() as sock:
        sock.sendall(b"this is no TLS\n" * 20)
        with contextlib.suppress(ConnectionError):
            while sock.recv(1000):
                pass
    assert exchange(server, cert, b"you\n")[0] == b"hello you\n"
    server.wait_connections(live=0, finished=3)
    assert "Traceback" not in server.log()


def test_clients_must_show_a_certificate_of_the_authority(serve, certificate):
    cert, key = certificate("server")
    friend, stranger = certificate("friend"), certificate("stranger")
    server = serve("app:app", "--workers", "1", "--tls-cert", cert, "--tls-key", key, "--tls-ca", friend[0])
    assert b"200 OK" in exchange(server, cert, client=friend)[0]
    for client in (None, stranger):
        with contextlib.suppress(OSError):  # the end, or an alert: with TLS 1.3 it comes when the client reads
            assert exchange(server, cert, client=client)[0] == b""
    assert b"200 OK" in exchange(server, cert, client=friend)[0]
    server.wait_connections(live=0, finished=4)


def test_a_reload_reads_certificates_again_and_refuses_bad_ones(serve, certificate, tmp_path):
    one, two = certificate("one"), certificate("two")
    both = tmp_path / "both.pem"

    def put(pair):
        both.write_text("".join(Path(path).read_text() for path in pair))

    put(one)
    server = serve("app:app", "--workers", "1", "--tls-cert", str(both))
    assert exchange(server, one[0])[1] == "one"
    put(two)
    assert exchange(server, one[0])[1] == "one"
    server.cli("reload")
    assert exchange(server, two[0])[1] == "two"
    both.write_text("no certificate")
    done = server.cli("reload", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"fdpass reload: --tls-cert {both}: ")
    assert exchange(server, two[0])[1] == "two"


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["start", "check"])
@pytest.mark.parametrize("bad", ["garbage", "foreign key", "no key"])
def test_a_bad_certificate_is_refused_at_the_start(serve, certificate, tmp_path, bad, check):
    cert, _ = certificate("one")
    flags = {
        "garbage": ("--tls-cert", str(tmp_path / "garbage")),
        "foreign key": ("--tls-cert", cert, "--tls-key", certificate("two")[1] if bad == "foreign key" else ""),
        "no key": ("--tls-cert", cert),
    }[bad]
    (tmp_path / "garbage").write_bytes(b"\0garbage")
    server = serve("app:app", *flags, *check, ready=False)
    assert server.wait_end() == 2
    said = {
        "garbage": "there is no PEM certificate in this file",
        "foreign key": "the private key does not belong to the first certificate",
        "no key": "there is no private key in this file: give the file of the key with --tls-key",
    }[bad]
    assert server.log().splitlines()[-1].startswith(f"Error: {' '.join(flags[-2:])}: {said}")
    assert "Traceback" not in server.log()


def test_a_handshake_that_never_ends_holds_up_nobody(serve, certificate):
    cert, key = certificate("one")
    server = serve("app:app", "--workers", "1", "--tls-cert", cert, "--tls-key", key, "--graceful-timeout", "1")
    with socket.create_connection(server.address) as silent:
        server.wait_connections(live=1)
        assert b"200 OK" in exchange(server, cert)[0]
        assert server.stop() == 0
        assert silent.recv(1) == b""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_that_answers_no_close_notify_holds_up_no_stop(serve, client, certificate, loop):
    """A pool of idle connections, which nobody reads."""
    cert, key = certificate("localhost")
    server = serve("app:app", "--loop", loop, "--keep-alive", "60", "--tls-cert", cert, "--tls-key", key)
    idle = client(server)
    idle.wrap(ssl.create_default_context(cafile=cert))
    idle.send().answered()
    assert server.stop() == 0
    assert "still finishing" not in server.log()  # as it says after five seconds
    assert idle.ended()


@needs_keeper
def test_without_their_dispatcher_tls_connections_stay_with_their_workers(serve, client, certificate):
    cert, key = certificate("localhost")
    server = serve("app:app", "--keeper", "on", "--keep-alive", "60", "--tls-cert", cert, "--tls-key", key)
    clients = [client(server) for _ in range(6)]
    for one in clients:
        one.wrap(ssl.create_default_context(cafile=cert))
    before = [one.send().answered() for one in clients]
    server.kill_dispatcher()
    assert [one.send().answered() for one in clients] == before
    server.kill_dispatcher_and(before[0])
    for one, pid in zip(clients, before, strict=True):
        assert one.ended() if pid == before[0] else one.send().answered() == pid
    assert server.cli("reload").returncode == 0
    new = client(server)
    new.wrap(ssl.create_default_context(cafile=cert))
    assert new.send().answered() in server.workers()
