"""A stop finishes requests in progress within graceful-timeout, and closes WebSockets; a second one cuts all."""

import contextlib
import os
import signal
import socket
import time

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fdpass.serve.keeper.requests import NOTICE

from ._keeper_here import needs_keeper
from .conftest import state_of, stopped, wait_until

SLOW = """
    import asyncio, os

    async def app(scope, receive, send):
        body = str(os.getpid()).encode()
        print("called", flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"finished"})

    async def stream(reader, writer):
        writer.write(await reader.readline())
        try:
            await reader.readline()
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            raise

    def blocking(sock):
        sock.sendall(sock.recv(100))
        try:
            sock.recv(100)
        except ConnectionError:  # EPIPE in recv(2), for the socket was disconnected
            print("ended by a reset", flush=True)
"""
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def url(server):
    """The address of the server's WebSockets."""
    return f"ws://127.0.0.1:{server.address[1]}/"


def test_a_websocket_echoes_and_is_balanced(serve):
    server = serve()
    with connect(url(server)) as one, connect(url(server)) as two:
        assert {int(one.recv()), int(two.recv())} == set(server.workers())
        for text in ("hello", "x" * 100_000, "\N{SNOWMAN}"):
            one.send(text)
            assert one.recv() == text
        server.wait_connections(live=2)
    server.wait_connections(live=0, finished=2)


def test_a_websocket_gets_close_code_1012_at_a_stop(serve):
    server = serve("app:app", "--workers", "1")
    with connect(url(server)) as websocket:
        websocket.recv()
        server.kill(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(60)
        assert closed.value.rcvd.code == 1012
    assert server.wait_end() == 0


def test_a_stop_finishes_a_request_in_progress_and_accepts_no_connection(serve):
    flags = ("--workers", "1", "--lifespan", "off")
    server = serve("app:app", *flags, files={"app.py": SLOW})
    address = server.address
    with server.connect() as sock, server.connect() as idle, sock.makefile("rb") as stream:
        sock.sendall(GET)
        server.wait_log("called")
        server.kill(signal.SIGTERM)
        server.wait_heard("STOPPING=1")
        assert idle.recv(1) == b""  # closed at once
        (server.folder / "go").touch()
        assert b"finished" in stream.read()
    assert server.wait_end() == 0
    with pytest.raises(ConnectionRefusedError):
        server.exchange(GET, address)


WAYS = pytest.mark.parametrize("accept", ["dispatcher", "worker"])


@contextlib.contextmanager
def finishing(server, address):
    """The server has begun to stop, and finishes a request until the end of the block; then it has ended."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
        sock.connect(address)
        sock.sendall(GET)
        server.wait_log("called")
        server.kill(signal.SIGTERM)
        server.wait_heard("STOPPING=1")
        with sock.makefile("rb") as stream:
            yield
            (server.folder / "go").touch()
            assert b"finished" in stream.read()
    assert server.wait_end() == 0


@WAYS
def test_a_port_is_free_for_another_server_while_a_stop_finishes_a_request(serve, tools, accept):
    server = serve("app:app", "--lifespan", "off", "--accept", accept, files={"app.py": SLOW})
    address = server.address

    def refused():
        try:
            socket.create_connection(address, 60).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return True

    with finishing(server, address):
        tools.wait_until(refused, "refused: ", server.log)
        other = serve("app:app", "--workers", "1", bind=["{}:{}".format(*address)])
        assert b"200 OK" in other.exchange(LAST, address)
    assert b"200 OK" in other.exchange(LAST, address)


@WAYS
def test_a_unix_path_is_free_for_another_server_while_a_stop_finishes_a_request(serve, tools, tmp_path, accept):
    path = str(tmp_path / "s")
    flags = ("--lifespan", "off", "--accept", accept)
    server = serve("app:app", *flags, files={"app.py": SLOW}, bind=[f"unix:{path}"])
    with finishing(server, path):
        tools.wait_until(lambda: not os.path.exists(path), "removed: ", server.log)
        other = serve("app:app", "--workers", "1", bind=[f"unix:{path}"])
        assert b"200 OK" in other.exchange(LAST, path)
    assert b"200 OK" in other.exchange(LAST, path)  # the old server has not removed the new one's socket
    assert other.stop() == 0
    assert not os.path.exists(path)


def test_another_server_takes_the_control_socket_of_one_that_is_stopping(serve):
    server = serve("app:app", "--lifespan", "off", files={"app.py": SLOW})
    flags = ("app:app", "--workers", "1", "--control", server.control)
    refused = serve(*flags, ready=False)
    assert refused.wait_end() == 1
    assert "another server has the control socket" in refused.log()
    with finishing(server, server.address):
        assert server.status()["server"]["stopping"]
        other = serve(*flags)
        assert server.status()["server"]["pid"] == other.pid
    assert server.status()["server"]["pid"] == other.pid  # the old server has not removed the new one's socket
    assert not server.status()["server"]["stopping"]


def test_an_inherited_listener_stays_open_while_a_stop_finishes_a_request(serve, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        path = str(tmp_path / "s")
        listener.bind(path)
        listener.listen()
        bind = [f"fd://{listener.fileno()}"]
        flags = ("--lifespan", "off")
        server = serve("app:app", *flags, files={"app.py": SLOW}, bind=bind, pass_fds=[listener.fileno()])
        with finishing(server, path), socket.socket(socket.AF_UNIX) as waiting:
            server.wait_status(lambda status: all(each["state"] == "retiring" for each in status["workers"]))
            waiting.connect(path)  # waits in the backlog for the giver, or the next server
            waiting.sendall(GET)
            next_server = serve("app:app", "--workers", "1", bind=bind, pass_fds=[listener.fileno()])
            assert waiting.recv(12) == b"HTTP/1.1 200"
        assert next_server.stop() == 0
        assert os.path.exists(path)


def test_new_idle_connections_do_not_delay_the_stop(serve):
    server = serve("app:app", "--workers", "1", "--graceful-timeout", "5")
    held = [server.connect() for _ in range(40)]
    assert server.stop() == 0
    for sock in held:
        sock.close()
    assert "timeout graceful shutdown exceeded" not in server.log()
    assert "Traceback" not in server.log()


def test_a_second_sigterm_stops_the_server_at_once(serve):
    flags = ("--workers", "1", "--lifespan", "off", "--access-log", "access")
    server = serve("app:app", *flags, files={"app.py": SLOW})
    with server.connect() as sock:
        sock.sendall(GET)
        server.wait_log("called")
        server.kill(signal.SIGTERM)
        server.wait_heard("STOPPING=1")
        began = time.monotonic()
        server.kill(signal.SIGINT)
        server.wait_log("stopping at once")
        assert server.wait_end() == 0
        assert time.monotonic() - began < 10  # of the graceful 30
        assert sock.recv(100).startswith(b"HTTP/1.1 502 ")  # no worker is left to repeat the GET
    assert "answered 502: no worker is left for the request: GET /" in server.log()
    assert '"GET / HTTP/1.1" 502' in (server.folder / "access").read_text()


def test_an_endless_stream_is_cut_after_graceful_timeout(serve):
    server = serve("app:app", "--workers", "1", "--graceful-timeout", "0.3")
    with server.connect() as sock, sock.makefile("rb") as stream:
        sock.sendall(b"GET /sse HTTP/1.1\r\nHost: x\r\n\r\n")
        while not stream.readline().startswith(b"data: "):
            pass
        server.kill(signal.SIGTERM)
        rest = stream.read()
        assert not rest.endswith(b"0\r\n\r\n")  # cut, and not ended: the client can tell
    assert server.wait_end() == 0


HOOKED = """
    import asyncio, uvicorn

    over = asyncio.Event()
    handle_exit = uvicorn.Server.handle_exit

    def told(*arguments):  # as sse-starlette does
        over.set()
        handle_exit(*arguments)

    uvicorn.Server.handle_exit = told

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1", "more_body": True})
        if scope["path"] == "/told":
            await over.wait()
        else:
            await asyncio.Event().wait()
"""


@pytest.mark.parametrize("how", ["stop", "reload"])
def test_streams_that_learn_of_the_end_from_uvicorns_hook_end_at_once(serve, client, how):
    server = serve("hooked:app", "--workers", "1", "--lifespan", "off", files={"hooked.py": HOOKED})
    (worker,) = server.workers()
    one = client(server).send("/told")
    assert one.head()[0] == 200
    began = time.monotonic()
    if how == "stop":
        assert server.stop() == 0
    else:
        server.cli("reload")
        server.wait_log(f"worker {worker} has retired")
    assert time.monotonic() - began < 15  # of the graceful 30
    assert one.cut()[0] == b"7\r\ndata: 1\r\n"
    assert "error" not in server.log()


def test_a_stop_says_for_whom_it_waits_and_a_cut_stream_is_one_line(serve, client):
    flags = ("--workers", "1", "--lifespan", "off", "--graceful-timeout", "6")
    server = serve("hooked:app", *flags, files={"hooked.py": HOOKED})
    (worker,) = server.workers()
    one = client(server).send("/deaf")
    assert one.head()[0] == 200
    assert server.stop() == 0
    log = server.log()
    assert f"still finishing: worker {worker} (1 request, at most 1 s)" in log
    address = ":".join(map(str, one.sock.getsockname()))
    cut = "cut after 6 s of graceful time (--graceful-timeout): GET /deaf, client "
    assert f"[{worker}] warning: {cut}{address}\n" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(("kind", "said"), [("stream", "cancelled"), ("blocking", "ended by a reset")])
def test_raw_handlers_are_cut_after_graceful_timeout(serve, kind, said):
    """By a reset: a client must not take what they have sent for a whole reply."""
    flags = ("--workers", "1", "--graceful-timeout", "0.3")
    server = serve(f"app:{kind}", *flags, files={"app.py": SLOW})
    with server.connect() as sock:
        sock.sendall(b"x\n")
        assert sock.recv(10) == b"x\n"
        server.kill(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            sock.recv(10)
    assert server.wait_end() == 0
    assert said in server.log()


@needs_keeper
@pytest.mark.parametrize("number", [NOTICE, signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_at_the_very_end_does_not_kill_the_server(serve, client, number):
    """Its exit code would tell a service manager of a failure."""
    server = serve("app:app", "--workers", "1", "--lifespan", "off", files={"app.py": SLOW})
    one = client(server).ask()
    server.wait_log("called")
    dispatcher = server.status()["server"]["dispatcher"]
    server.kill(signal.SIGTERM)
    server.wait_log("stopping: ")
    with stopped(server.pid):
        (server.folder / "go").touch()
        assert b"finished" in one.rest()
        wait_until(lambda: state_of(dispatcher) == "Z", "the dispatcher has ended: ", server.log)
        server.kill(number)
    assert server.wait_end() == 0
