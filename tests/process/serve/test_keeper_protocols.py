"""``--keeper on`` with each protocol: deaths of the dispatcher, and of a worker with it; then a reload."""

import os
import socket
import sys

import pytest

from ._keeper_here import needs_keeper
from ._websockets import about
from .test_binds import ACTIVATE, at_three
from .test_custody_raw_moves import MOVING
from .test_live_streams import APP as STREAMS
from .test_live_streams import Stream
from .test_proxied import V1

pytestmark = needs_keeper

WSGI = """
    import os

    def app(environ, start_response):
        body = str(os.getpid()).encode()
        start_response("200 OK", [("content-length", str(len(body)))])
        return [body]
"""


def reload(server):
    server.cli("reload")
    server.wait_status(lambda status: {w["state"] for w in status["workers"]} == {"ready"})


def test_wsgi(serve, client):
    server = serve("app:app", "--keeper", "on", "--keep-alive", "60", files={"app.py": WSGI})
    clients = [client(server) for _ in range(6)]
    before = [one.send().answered() for one in clients]
    server.kill_dispatcher()
    assert [one.send().answered() for one in clients] == before
    server.kill_dispatcher_and(before[0])
    assert all(one.send().answered() != before[0] for one in clients)
    server.kill_dispatcher()
    reload(server)
    assert {one.send().answered() for one in clients} <= set(server.workers())
    server.wait_connections(live=6, lost=0)


def test_raw_handlers_and_bytes_that_they_move(serve, client):
    server = serve("moving:handle", "--keeper", "on", files={"moving.py": MOVING})
    clients = [client(server) for _ in range(20)]

    def say(line, answer):
        for one in clients:
            one.sock.sendall(line)
        assert {one.sock.recv(100) for one in clients} == {answer}

    say(b"one\n", b"one after \n")
    server.kill_dispatcher()
    say(b"two\n", b"two after \n")
    for one in clients:
        one.sock.sendall(b"go\nbefore ")
    server.wait_log("MOVES", 20)
    server.kill_dispatcher_and(server.workers()[0])
    say(b"and behind\n", b"before and behind after moved\n")
    server.kill_dispatcher()
    reload(server)
    say(b"three\n", b"three after \n")
    server.wait_connections(live=20, lost=0)


def test_open_websockets(live, open_websocket):
    pytest.importorskip("websockets")
    server, _ = live("--keeper", "on")
    clients = [open_websocket(server) for _ in range(4)]
    told = [about(client) for client in clients]
    server.kill_dispatcher()
    assert [about(client) for client in clients] == told
    for client in clients:
        client.say("state kept")
        client.hear()
    server.kill_dispatcher_and(told[0]["pid"])
    after = [about(client) for client in clients]
    assert all(each["pid"] != told[0]["pid"] and each["state"] == "kept" for each in after)
    server.kill_dispatcher()
    assert [about(client) for client in clients] == after
    reload(server)
    again = [about(client) for client in clients]
    assert {each["pid"] for each in again} <= set(server.workers())
    assert all(each["state"] == "kept" for each in again)
    server.wait_connections(live=4, lost=0)


def test_open_event_streams(serve, client):
    server = serve(
        "live:app", "--keeper", "on", "--resume", "/events", "--graceful-timeout", "3", files={"live.py": STREAMS}
    )
    streams = [Stream(client(server)) for _ in range(4)]
    pids = [stream.events(3)[0] for stream in streams]
    server.kill_dispatcher()
    assert [stream.events(3)[0] for stream in streams] == pids
    server.kill_dispatcher_and(pids[0])
    _until_elsewhere(streams, {pids[0]})
    server.kill_dispatcher()
    old = set(server.workers())
    server.cli("reload")
    _until_elsewhere(streams, old)


def _until_elsewhere(streams, old):
    for stream in streams:
        while stream.events(1)[0] in old:
            pass


def test_proxy_headers_move_with_their_connections(kept, client):
    server = kept("--keeper", "on", "--proxy-protocol")
    clients = [client(server) for _ in range(6)]
    for one in clients[:4]:
        one.sock.sendall(V1)
    pids = [one.ask().told()["pid"] for one in clients[:4]]
    for one in clients[4:]:
        one.sock.sendall(V1[:20])
        server.wait_read(one)
    server.kill_dispatcher()
    server.kill_dispatcher_and(pids[0])
    for one in clients[4:]:
        one.sock.sendall(V1[20:])
    told = [one.ask().told() for one in clients]
    assert {tuple(each["client"]) for each in told} == {("192.0.2.1", 56324)}
    assert pids[0] not in {each["pid"] for each in told}


def test_activated_listeners_outlive_the_dispatcher_and_are_not_closed(serve, tmp_path):
    path = str(tmp_path / "s")
    request = b"GET / HTTP/1.0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as first, socket.socket(socket.AF_UNIX) as second:
        second.bind(path)
        second.listen()
        with at_three(first, second) as numbers:
            server = serve(
                *("app:app", "--keeper", "on"),
                env={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:local"},
                bind=[],
                launch=(sys.executable, "-c", ACTIVATE),
                pass_fds=numbers,
            )
        for _ in range(2):
            assert b"200 OK" in server.exchange(request)
            assert b"200 OK" in server.exchange(request, path)
            server.kill_dispatcher()
        assert server.status()["server"]["listeners"] == [f"127.0.0.1:{first.getsockname()[1]}", f"unix:{path}"]
        assert server.stop() == 0
        assert os.path.exists(path)  # the manager's own, who still listens
        with socket.create_connection(first.getsockname(), 60):
            pass


# Where there is no keeper

NO_CLONE = """
import ctypes, struct, sys
from fdpass._cli import main

def forbid(number, offset):
    \"\"\"Let this system call fail with EPERM if its flags have CLONE_FILES: seccomp(2), a filter of BPF.\"\"\"
    code = [
        (0x20, 0, 0, 0),               # load the number of the call
        (0x15, 0, 3, number),          # another call: allow
        (0x20, 0, 0, 16 + offset),     # load the flags
        (0x45, 0, 1, 0x400),           # without CLONE_FILES: allow
        (0x06, 0, 0, 0x50000 | 1),     # EPERM
        (0x06, 0, 0, 0x7FFF0000),
    ]
    program = b"".join(struct.pack("HBBI", *each) for each in code)
    buffer = ctypes.create_string_buffer(program)
    filter_ = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter_, 0, 0):
        sys.exit(99)

forbid(*((56, 0) if sys.argv.pop(1) == "x86_64" else (220, 0)))
main(prog_name="fdpass")
"""


@pytest.mark.parametrize("asked", [True, False])
def test_where_a_filter_forbids_the_clone_one_process_serves(serve, asked):
    machine = os.uname().machine
    if machine not in {"x86_64", "aarch64"}:
        pytest.skip("the numbers of system calls are not known here")
    flags = ("--keeper", "on") if asked else ()
    server = serve("app:app", *flags, launch=(sys.executable, "-c", NO_CLONE, machine), ready=False)
    if server.process.poll() == 99:
        pytest.skip("this kernel has no filters")
    server.wait_heard("READY=1")
    assert server.get()[0] == 200
    status = server.status()["server"]
    assert status["dispatcher"] == status["pid"] == server.pid
    assert server.log().count("there is no keeper: cannot clone this process: Operation not permitted") == asked
    assert server.cli("reload").returncode == 0
    assert server.stop() == 0


def test_on_an_unknown_machine_one_process_serves(serve):
    code = "import platform; platform.machine = lambda: 'sparc64'; from fdpass._cli import main; main()"
    server = serve("app:app", "--keeper", "on", launch=(sys.executable, "-c", code))
    assert server.get()[0] == 200
    assert "there is no keeper: clone(2) of sparc64 is not known" in server.log()
    assert server.status()["server"]["dispatcher"] == server.pid
