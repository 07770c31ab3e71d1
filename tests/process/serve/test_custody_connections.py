"""Connections that are not plain HTTP over TCP: Unix sockets, PROXY headers, TLS, WebSockets."""

import shutil
import ssl
import subprocess

import pytest


@pytest.fixture
def unix(kept, client, tmp_path):
    """``unix(*flags)``: a server at a Unix socket, and what makes a client of it."""

    def start(*flags):
        path = str(tmp_path / "unix")
        server = kept(*flags, bind=[f"unix:{path}"])
        return server, lambda: client(server, address=path)

    return start


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_keep_alive_connections_over_a_unix_socket_go_on_after_a_kill_and_a_reload(unix, loop):
    server, connect = unix("--workers", "1", "--loop", loop)
    some = [connect() for _ in range(4)]
    asked = some[1:]  # of the first, nothing was ever read
    pids = {one.ask().told()["pid"] for one in asked}
    # The kernel does not count here: an answer is out for a moment before its worker's own mark says so.
    last = connect()
    last.ask("/later").told()
    last.close()
    server.wait_connections(live=4, handed=5, finished=1)
    server.kill_worker(*pids)
    pids |= {one.ask().told()["pid"] for one in some}
    server.cli("reload")
    pids |= {one.ask().told()["pid"] for one in some}
    assert len(pids) == 3
    server.wait_connections(accepted=5, live=4, lost=0, moved=8, cut=0)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_requests_over_a_unix_socket_are_repeated_answered_502_or_cut_as_over_tcp(unix, loop):
    server, connect = unix("--workers", "1", "--loop", loop)
    get, post, stream = connect().ask("/wait", "get"), connect().ask("/wait", "post", "POST", b"x"), connect()
    stream.ask("/stream", "stream")
    assert stream.sock.recv(1000)
    pids = {server.wait_executed(token) for token in ("get", "post", "stream")}
    server.kill_worker(*pids)
    assert get.told()["attempt"] == 1
    assert get.ask().told()["attempt"] == 0
    assert post.refused()
    assert b"part of it" not in stream.cut()[0].replace(b"part of it", b"", 1)  # a Unix socket knows no reset
    server.wait_connections(accepted=3, live=1, lost=2, replayed=1, answered_502=1, cut=1)


def test_the_address_from_a_proxy_header_is_still_right_after_a_kill_a_replay_and_a_reload(kept, client):
    server = kept("--workers", "1", "--proxy-protocol")
    idle, busy = client(server), client(server)
    for one, address in ((idle, "192.0.2.7 198.51.100.1 4711 80"), (busy, "192.0.2.8 198.51.100.1 4712 80")):
        one.sock.sendall(f"PROXY TCP4 {address}\r\n".encode())
    assert idle.ask().told()["client"] == ["192.0.2.7", 4711]
    killed = server.wait_executed("-")
    busy.ask("/wait", "t")
    server.wait_executed("t")
    server.kill_worker(killed)
    told = busy.told()
    assert (told["client"], told["attempt"]) == (["192.0.2.8", 4712], 1)
    assert idle.ask().told()["client"] == ["192.0.2.7", 4711]
    server.cli("reload")
    assert idle.ask().told()["client"] == ["192.0.2.7", 4711]
    assert busy.ask().told()["client"] == ["192.0.2.8", 4712]
    server.wait_connections(accepted=2, live=2, lost=0, replayed=1)


def test_a_websocket_ends_with_its_worker_and_is_counted_as_cut(kept, client):
    server = kept("--workers", "1")
    one = client(server).upgrade().held()
    one.say("hello")
    assert one.hear() == "hello"
    server.kill_worker(one.worker)
    assert one.ended()
    assert "closed: its worker died, and no other process has its state" in server.log()
    server.wait_connections(accepted=1, live=0, lost=1, moved=0, replayed=0, answered_502=0, cut=1)


def test_a_tls_connection_ends_with_its_worker_and_the_next_one_is_served(kept, client, tmp_path):
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("openssl is not installed")
    command = [tool, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key", "-out", "cert", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    server = kept("--workers", "1", "--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key"))
    context = ssl.create_default_context(cafile=tmp_path / "cert")

    def connect():
        one = client(server)
        one.wrap(context)
        return one

    one = connect()
    killed = one.ask().told()["pid"]
    server.kill_worker(killed)
    assert one.ended()
    assert connect().ask().told()["pid"] != killed
    server.wait_connections(accepted=2, lost=1, moved=0, cut=1)
