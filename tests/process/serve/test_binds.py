"""Where a server listens: TCP of both families, Unix sockets, what it inherits; and what is taken already."""

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys

import pytest

GET = b"GET / HTTP/1.0\r\n\r\n"
ACTIVATE = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "fdpass", *sys.argv[1:]])
"""
"""As a service manager starts: the variables name the process that becomes the server."""


@contextlib.contextmanager
def at_three(*socks):
    """Have these at 3, 4, ..., where socket activation has them, in the child that `pass_fds` names."""
    first = 3
    kept = {}
    for number in range(first, first + len(socks)):
        with contextlib.suppress(OSError):
            kept[number] = os.dup(number)
    for number, sock in enumerate(socks, first):
        os.dup2(sock.fileno(), number)
    try:
        yield tuple(range(first, first + len(socks)))
    finally:
        for number in range(first, first + len(socks)):
            if number in kept:
                os.dup2(kept[number], number, inheritable=False)
                os.close(kept[number])
            else:
                os.close(number)


def test_several_addresses_of_all_kinds_at_once(serve, tmp_path):
    path = str(tmp_path / "s")
    server = serve(bind=["127.0.0.1:0", "[::1]:0", "localhost:0", f"unix:{path}"], env={})
    listeners = server.status()["server"]["listeners"]
    assert listeners[-1] == f"unix:{path}"
    for name in listeners[:-1]:
        host, _, port = name.rpartition(":")
        assert b"200 OK" in server.exchange(GET, (host.strip("[]"), int(port)))
    assert b"200 OK" in server.exchange(GET, path)
    server.wait_connections(finished=len(listeners), live=0)
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    assert server.stop() == 0
    assert not os.path.exists(path)


def test_localhost_with_a_port_is_both_families(serve):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = serve("app:app", "--workers", "1", bind=[f"localhost:{port}"])
    families = {name.rpartition(":")[0] for name in server.status()["server"]["listeners"]}
    assert families <= {"127.0.0.1", "[::1]"}
    assert b"200 OK" in server.exchange(GET, ("localhost", port))


CLIENTS = """
    import json

    def told(client, server):
        return json.dumps([client[:2], server[:2]])

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        text = told(scope["client"], scope["server"])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": text})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": text.encode()})

    async def stream(reader, writer):
        writer.write(told(writer.get_extra_info("peername"), writer.get_extra_info("sockname")).encode())
        writer.close()

    def blocking(sock):
        sock.sendall(told(sock.getpeername(), sock.getsockname()).encode())
"""


@pytest.mark.parametrize(
    ("kind", "loop"), [("app", "auto"), ("stream", "uvloop"), ("stream", "asyncio"), ("blocking", "auto")]
)
def test_every_ipv6_address_serves_ipv4_clients_whose_addresses_are_those_of_ipv4(serve, client, kind, loop):
    flags = (f"clients:{kind}", "--workers", "1", "--loop", loop)
    server = serve(*flags, files={"clients.py": CLIENTS}, bind=["[::]:0"])
    port = server.status()["server"]["listeners"][0].rpartition(":")[2]
    for host in ("127.0.0.1", "::1"):
        with socket.create_connection((host, port), 60) as sock, sock.makefile("rb") as stream:
            sock.sendall(GET if kind == "app" else b"")
            found = json.loads(stream.read().rpartition(b"\r\n")[2])
            assert found == [list(sock.getsockname()[:2]), [host, int(port)]]
    if kind == "app":
        websocket = client(server, address=("127.0.0.1", int(port))).upgrade()
        assert websocket.head()[0] == 101
        assert json.loads(websocket.hear()) == [list(websocket.sock.getsockname()), ["127.0.0.1", int(port)]]


def test_a_stale_socket_file_is_replaced_and_a_live_one_refused(serve, tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    server = serve("app:app", "--workers", "1", bind=[f"unix:{path}"])
    assert b"200 OK" in server.exchange(GET, path)
    second = serve("app:app", "--workers", "1", bind=[f"unix:{path}"], ready=False)
    assert second.wait_end() == 1
    assert path in second.log()
    assert "Traceback" not in second.log()
    assert b"200 OK" in server.exchange(GET, path)


def test_a_port_and_a_control_socket_that_are_taken_are_refused_with_a_sentence(serve):
    server = serve("app:app", "--workers", "1")
    address = "{}:{}".format(*server.address)
    second = serve("app:app", "--workers", "1", bind=[address], ready=False)
    assert second.wait_end() == 1
    why = "another process listens there already"
    assert second.log().startswith(f"fdpass serve: cannot listen at {address}: {why}")
    assert len(second.log().splitlines()) == 1
    third = serve("app:app", "--workers", "1", "--control", server.control, ready=False)
    assert third.wait_end() == 1
    assert third.log().startswith(f"fdpass serve: another server has the control socket {server.control}")
    assert "with --control PATH" in third.log()
    assert server.get()[0] == 200


def test_an_address_that_this_machine_does_not_have_is_refused(serve):
    server = serve("app:app", bind=["203.0.113.7:0"], ready=False)
    assert server.wait_end() == 1
    assert server.log().startswith("fdpass serve: cannot listen at 203.0.113.7:0: ")


def test_an_inherited_listener_is_served_and_stays_the_givers(serve):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        server = serve("app:app", "--workers", "1", bind=[f"fd://{number}"], pass_fds=[number])
        assert server.address == listener.getsockname()
        assert server.get()[0] == 200
        assert server.stop() == 0
        with socket.create_connection(listener.getsockname()):  # the kernel still takes connections
            pass


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        ("fd://987", "--bind fd://987: this descriptor is not open"),
        ("fd://1", "it is of kind file, not a socket that listens"),
    ],
)
def test_a_descriptor_that_is_no_listener_is_refused(serve, bind, said):
    server = serve("app:app", bind=[bind], ready=False)
    assert server.wait_end() == 2
    assert said in server.log().splitlines()[-1]


def test_socket_activation_gives_the_listeners(serve, tmp_path):
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as first, socket.socket(socket.AF_UNIX) as second:
        second.bind(path)
        second.listen()
        early = socket.create_connection(first.getsockname(), 60)  # waits in the backlog
        with early, early.makefile("rb") as stream:
            early.sendall(GET)
            with at_three(first, second) as numbers:
                env = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:local"}
                server = serve(
                    "app:app",
                    "--workers",
                    "1",
                    env=env,
                    bind=[],
                    launch=(sys.executable, "-c", ACTIVATE),
                    pass_fds=numbers,
                )
            assert b"200 OK" in stream.read()
        assert server.status()["server"]["listeners"] == [f"127.0.0.1:{first.getsockname()[1]}", f"unix:{path}"]
        assert b"200 OK" in server.exchange(GET, path)
        assert server.stop() == 0
        assert os.path.exists(path)  # the manager's own


def test_a_wrong_activation_is_refused(serve):
    server = serve(
        "app:app", env={"LISTEN_FDS": "7"}, bind=[], launch=(sys.executable, "-c", ACTIVATE), ready=False
    )
    assert server.wait_end() == 1
    assert "LISTEN_FDS=7, but descriptor" in server.log()
    assert "Traceback" not in server.log()


def test_an_abstract_unix_socket_is_served(serve, tmp_path):
    name = f"fdpass-{os.getpid()}"
    app = """
        async def app(scope, receive, send):
            assert scope["server"][0].startswith("@fdpass-")
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})
    """
    server = serve("abstract:app", "--lifespan", "off", bind=[f"unix:@{name}"], files={"abstract.py": app})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect("\0" + name)
        sock.sendall(GET)
        assert sock.makefile("rb").readline().split()[1] == b"204"
    assert server.stop() == 0


def test_check_binds_nothing(tmp_path):
    command = [sys.executable, "-m", "fdpass", "serve", "--check", "--bind", f"unix:{tmp_path}/s"]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert os.listdir(tmp_path) == []
