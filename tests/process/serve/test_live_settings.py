"""``--resume`` and reloads: what a file of settings says then holds for streams that are open already."""

import contextlib

import pytest

from ._reload_helpers import all_ready

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CLOSE = b"\x88\x02" + (1012).to_bytes(2, "big")
APP = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    resumed = scope["extensions"]["fdpass"].get("resumed", "-")
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{message['text']} {resumed}"})
"""


class Socket:
    """A client's WebSocket: text frames without a mask, which is a mask of zeros."""

    def __init__(self, sock):
        self.sock = sock
        self.file = sock.makefile("rb")
        sock.sendall(HANDSHAKE)
        assert self.file.readline().startswith(b"HTTP/1.1 101 ")
        while self.file.readline() != b"\r\n":
            pass

    def ask(self, text):
        self.sock.sendall(b"\x81%c\0\0\0\0%b" % (0x80 | len(text), text.encode()))
        first, size = self.file.read(2)
        assert first == 0x81
        return self.file.read(size).decode()


@pytest.fixture
def settings(serve):
    """``settings(*prefixes)``: a server whose file of settings names these paths."""

    def start(*prefixes):
        files = {"live.py": APP, "fdpass.toml": f"resume = {list(prefixes)}\n"}
        flags = ("--config", "fdpass.toml", "--workers", "1", "--lifespan", "off", "--graceful-timeout", "1")
        return serve("live:app", *flags, files=files)

    return start


def reload(server, *prefixes):
    (server.folder / "fdpass.toml").write_text(f"resume = {list(prefixes)}\n")
    return server.cli("reload", check=False)


def test_a_path_that_a_reload_adds_is_resumed_from_then_on(settings):
    server = settings()
    with contextlib.closing(server.connect()) as one, contextlib.closing(server.connect()) as two:
        before = Socket(one)
        assert before.ask("a") == "a -"
        assert reload(server, "/ws").returncode == 0
        after = Socket(two)
        assert before.file.read() == CLOSE
        assert after.ask("b") == "b 0"
        (worker,) = server.wait_status(all_ready(1, 2))["workers"]
        server.kill_worker(worker["pid"])
        assert after.ask("c") == "c 1"
        server.wait_connections(live=1, resumed=1)


def test_a_websocket_of_a_path_that_a_reload_removes_is_told_to_connect_again(settings):
    """Its application may have been found to be one that must not be called anew."""
    server = settings("/ws")
    with contextlib.closing(server.connect()) as sock:
        one = Socket(sock)
        assert one.ask("a") == "a 0"
        assert reload(server).returncode == 0
        assert one.file.read() == CLOSE


def test_a_reload_that_could_not_resume_is_refused(settings):
    server = settings("/ws")
    with contextlib.closing(server.connect()) as sock:
        one = Socket(sock)
        (server.folder / "fdpass.toml").write_text("resume = ['/ws']\ntls-cert = 'cert.pem'\n")
        done = server.cli("reload", check=False)
        assert done.returncode == 1
        assert "--resume cannot be combined with --tls-cert" in done.stderr
        assert one.ask("a") == "a 0"
