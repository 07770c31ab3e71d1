"""Servers that were not written for fdpass: given a listener, they accept what is passed to their worker."""

import http.client
from pathlib import Path

import pytest

EXAMPLES = str(Path(__file__).parents[3] / "examples")
SERVERS = ("hypercorn", "aiohttp", "waitress", "wsgiref_", "http_server", "threading_tcp")
PLAIN = """
    import os

    def main(listener):
        try:
            while True:
                sock, address = listener.accept()
                with sock, sock.makefile("rwb", 0) as stream:
                    assert address == sock.getpeername()
                    while line := stream.readline():
                        stream.write(line)
        finally:
            print(f"{os.getpid()} cleans up", flush=True)  # in one write: the other worker prints, too
"""


@pytest.mark.parametrize("name", SERVERS)
def test_a_foreign_server_serves_in_two_workers_and_stops(serve, name):
    server = serve(f"foreign_servers:{name}", "--app-dir", EXAMPLES)
    pages = [server.get() for _ in range(4)]
    assert [status for status, _ in pages] == [200] * 4
    assert {int(page.split()[-1]) for _, page in pages} == set(server.workers())
    server.wait_connections(accepted=4, finished=4, lost=0)
    assert server.stop() == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("name", ["aiohttp", "waitress"])
def test_a_foreign_servers_connection_is_kept_alive(serve, name):
    server = serve(f"foreign_servers:{name}", "--app-dir", EXAMPLES, "--workers", "1")
    connection = http.client.HTTPConnection(*server.address, timeout=60)
    for _ in range(3):
        connection.request("GET", "/")
        assert connection.getresponse().read().endswith(b"\n")
    connection.close()
    server.wait_connections(accepted=1, finished=1)


def test_a_blocking_main_finishes_what_it_has_and_cleans_up(serve):
    server = serve("app:main", files={"app.py": PLAIN}, bind=["127.0.0.1:0", "[::1]:0"])
    workers = server.workers()
    with server.connect() as sock, sock.makefile("rwb", 0) as stream:
        stream.write(b"before\n")
        assert stream.readline() == b"before\n"
        server.kill(15)
        server.wait_heard("STOPPING=1")
        stream.write(b"after\n")
        assert stream.readline() == b"after\n"
    assert server.wait_end() == 0
    for pid in workers:
        assert f"{pid} cleans up" in server.log()


def test_a_main_that_fails_before_it_accepts_is_reported_with_its_traceback(serve):
    files = {"app.py": "def main(listener):\n    raise LookupError('no database')\n"}
    server = serve("app:main", "--workers", "1", files=files, ready=False)
    assert server.process.wait(60) == 1
    log = server.log()
    assert "the application failed to start: LookupError: no database" in log
    assert "in main" in log


def test_a_main_that_returns_without_accepting_is_refused(serve):
    server = serve("app:main", "--workers", "1", files={"app.py": "async def main(listener): pass"}, ready=False)
    assert server.wait_end() == 1
    assert "returned before it accepted" in server.log()


def test_a_main_that_ends_by_itself_is_replaced(serve):
    files = {"app.py": "def main(listener):\n    listener.accept()[0].close()\n    raise OSError('gone')\n"}
    server = serve("app:main", "--workers", "1", files=files)
    first = server.workers()
    assert server.exchange(b"") == b""
    server.wait_log("the application's server ended by itself")
    assert server.wait_status(
        lambda status: [w["pid"] for w in status["workers"] if w["state"] == "ready"] != first
    )
    assert server.log().count("OSError: gone") == 1
