"""Workers that have done enough are replaced, new before old; idle connections end; the pidfile comes and goes."""

import http.client
import os
import signal
import socket
import sys
import threading

import pytest

from fdpass import Fd

from .conftest import wait_until


def test_a_worker_that_has_handled_enough_is_replaced_and_no_request_fails(serve):
    server = serve("app:app", "--max-requests", "10")
    first = server.workers()
    seen = set()
    while len(seen) < 5:
        status, page = server.get()
        assert status == 200
        seen.add(int(page))
    assert not set(first) & set(server.workers())
    log = server.log()
    for pid in first:
        assert f"worker {pid} has handled" in log
        replaced = log.index(f"worker {pid} has handled")
        assert "is ready" in log[replaced : log.index(f"worker {pid} has retired")]
    assert server.status()["connections"]["lost"] == 0


def test_a_worker_that_has_grown_is_replaced(serve):
    text = """
        import os
        held = []
        async def app(scope, receive, send):
            if scope["path"] == "/grow":
                held.append(b"x" * 2**28)
            body = str(os.getpid()).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
    """
    flags = ("--workers", "1", "--lifespan", "off", "--max-rss", "250M")
    server = serve("app:app", *flags, files={"app.py": text})
    (first,) = server.workers()
    assert int(server.get("/grow")[1]) == first
    server.wait_log(f"worker {first} has retired")
    assert "MiB resident (--max-rss): it is replaced" in server.log()
    assert int(server.get()[1]) != first


def test_an_idle_connection_is_closed_after_the_keep_alive_time(serve):
    server = serve("app:app", "--workers", "1", "--keep-alive", "0.3")
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    connection.connect()
    sock = connection.sock
    for _ in range(3):
        connection.request("GET", "/")
        assert connection.getresponse().read()
    assert sock.recv(1) == b""
    connection.close()
    server.wait_connections(accepted=1, finished=1)


def test_connections_are_kept_alive_meanwhile(serve):
    server = serve("app:app", "--workers", "1")
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    for _ in range(20):
        connection.request("GET", "/")
        assert connection.getresponse().read()
    assert server.status()["connections"]["accepted"] == 1
    connection.close()


def test_the_pidfile_has_the_dispatchers_number_and_is_removed(serve, tmp_path):
    path = tmp_path / "pid"
    path.write_text("12345678\n")  # left behind by one that was killed
    server = serve("app:app", "--workers", "1", "--pidfile", str(path))
    assert path.read_text() == f"{server.pid}\n"
    assert server.stop() == 0
    assert not path.exists()


def test_a_pidfile_that_is_another_servers_by_then_is_left(serve, tmp_path):
    path = tmp_path / "pid"
    server = serve("app:app", "--workers", "1", "--pidfile", str(path))
    path.write_text("12345678\n")
    assert server.stop() == 0
    assert path.read_text() == "12345678\n"


@pytest.mark.parametrize("keeper", ["on", "off"])
def test_a_second_server_takes_the_pidfile_only_of_a_server_that_stops(serve, client, tmp_path, keeper):
    flags = ("--workers", "1", "--keeper", keeper, "--pidfile", str(tmp_path / "pid"))
    first = serve("app:app", *flags)
    second = serve("app:app", *flags, ready=False)
    assert second.wait_end() == 1
    assert f"is that of a running server, process {first.pid}: give this server its own" in second.log()
    assert (tmp_path / "pid").read_text() == f"{first.pid}\n"
    held = client(first).stream().held()
    first.kill(signal.SIGTERM)
    first.wait_log("stopping")
    third = serve("app:app", *flags)
    assert (tmp_path / "pid").read_text() == f"{third.pid}\n"
    held.close()
    assert first.wait_end() == 0
    assert (tmp_path / "pid").read_text() == f"{third.pid}\n"


@pytest.mark.parametrize("keeper", ["on", "off"])
def test_a_server_that_is_suspended_keeps_its_pidfile(serve, tmp_path, keeper):
    flags = ("--workers", "1", "--keeper", keeper, "--pidfile", str(tmp_path / "pid"))
    first = serve("app:app", *flags)
    with first.paused():
        second = serve("app:app", *flags, ready=False)
        assert second.wait_end() == 1
    assert f"is that of a running server, process {first.pid}: give this server its own" in second.log()
    assert not os.path.exists(second.control)
    assert (tmp_path / "pid").read_text() == f"{first.pid}\n"


LEFT = 12345678
CHECKING = f"""
import os
from fdpass._cli import main
from fdpass.serve.operator import servers

def is_serving(pid, of=servers.is_serving):
    if pid == {LEFT}:
        print("checked", flush=True)
        os.read(os.open("../go", os.O_RDONLY | os.O_CLOEXEC), 1)
    return of(pid)

servers.is_serving = is_serving
main(prog_name="fdpass")
"""
"""A server that has looked into the pidfile waits until the test lets it go on."""


@pytest.mark.parametrize("keeper", ["on", "off"])
def test_of_servers_that_start_in_the_same_moment_one_gets_the_pidfile(serve, tmp_path, keeper):
    flags = ("--workers", "1", "--keeper", keeper, "--pidfile", str(tmp_path / "pid"))
    (tmp_path / "pid").write_text(f"{LEFT}\n")  # by one that was killed
    os.mkfifo(tmp_path / "go")
    launch = (sys.executable, "-c", CHECKING)
    with Fd(os.open(tmp_path / "go", os.O_RDWR)) as gate:
        servers = [serve("app:app", *flags, ready=False, launch=launch) for _ in range(4)]
        for server in servers:
            server.wait_log("checked")
        os.write(gate.fileno(), bytes(len(servers)))
        wait_until(lambda: [server.process.poll() for server in servers].count(1) == 3, "3 have ended: ", str)
    (one,) = (server for server in servers if server.process.poll() is None)
    one.wait_heard("READY=1")
    assert (tmp_path / "pid").read_text() == f"{one.pid}\n"


@pytest.mark.parametrize("keeper", ["on", "off"])
def test_a_successor_takes_pidfile_and_control_socket_of_a_server_that_stops(serve, client, tmp_path, keeper):
    flags = ("--workers", "1", "--keeper", keeper, "--pidfile", str(tmp_path / "pid"))
    first = serve("app:app", *flags)
    held = client(first).stream().held()
    first.kill(signal.SIGTERM)
    first.wait_log("stopping")
    second = serve("app:app", *flags, "--control", first.control)
    assert (tmp_path / "pid").read_text() == f"{second.pid}\n"
    held.close()
    assert first.wait_end() == 0
    assert (tmp_path / "pid").read_text() == f"{second.pid}\n"


def test_a_pidfile_that_cannot_be_written_ends_the_start_with_a_sentence(serve):
    server = serve("app:app", "--pidfile", "/nowhere/pid", ready=False)
    assert server.wait_end() == 1
    assert server.log() == "fdpass serve: cannot write the pidfile /nowhere/pid: No such file or directory\n"


def test_wsgi_requests_run_side_by_side_in_threads(serve):
    text = """
        import threading
        both = threading.Barrier(2)
        def app(environ, start_response):
            both.wait(60)
            start_response("200 OK", [("Content-Length", "4")])
            return [b"both"]
    """
    server = serve("app:app", "--workers", "1", files={"app.py": text})
    pages = []
    threads = [threading.Thread(target=lambda: pages.append(server.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages == [(200, "both")] * 2


def test_tcp_nodelay_is_set_on_what_is_served(serve):
    text = """
        import socket
        async def handle(reader, writer):
            sock = writer.get_extra_info("socket")
            writer.write(b"%d" % sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    """
    for loop in ("asyncio", "uvloop"):
        server = serve("app:handle", "--workers", "1", "--loop", loop, files={"app.py": text})
        with socket.create_connection(server.address, 60) as sock:
            assert sock.recv(1) == b"1"
