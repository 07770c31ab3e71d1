"""HAProxy balances two servers by the agent-check of their dashboard: weight, drain, down, and back."""

import contextlib
import csv
import os
import shutil
import signal
import socket
import subprocess

import pytest

CONFIGURATION = """
global
    stats socket {folder}/stats level admin
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend web
    bind unix@{folder}/web
    default_backend servers
backend servers
    balance roundrobin
    option httpchk GET /
    default-server weight 100 check inter 500ms agent-check agent-inter 200ms agent-addr 127.0.0.1
    server first {first} agent-port {first_agent}
    server second {second} agent-port {second_agent}
"""


def free_ports():
    """Two ports that were free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return [sock.getsockname()[1] for sock in (one, other)]


class Haproxy:
    """A running HAProxy, and what it says of its servers."""

    def __init__(self, program, folder, **words):
        self.folder = folder
        configuration = folder / "haproxy.cfg"
        configuration.write_text(CONFIGURATION.format(folder=folder, **words))
        self.process = subprocess.Popen([program, "-db", "-q", "-f", str(configuration)])

    def _ask(self, name, data):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(30)
            sock.connect(str(self.folder / name))
            sock.sendall(data)
            with sock.makefile("rb") as stream:
                return stream.read().decode()

    def get(self):
        """The status line of a request through HAProxy."""
        return self._ask("web", b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").partition("\r\n")[0]

    def servers(self):
        """Status and weight of each server; nothing before HAProxy has started."""
        with contextlib.suppress(FileNotFoundError, ConnectionError):
            rows = csv.DictReader(self._ask("stats", b"show stat\n").removeprefix("# ").splitlines())
            return {
                row["svname"]: (row["status"], int(row["weight"])) for row in rows if row["pxname"] == "servers"
            }
        return {}

    def counts(self):
        """How many connections HAProxy has made to each server."""
        rows = csv.DictReader(self._ask("stats", b"show stat\n").removeprefix("# ").splitlines())
        return {row["svname"]: int(row["stot"]) for row in rows if row["pxname"] == "servers"}

    def close(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def haproxy(tmp_path):
    """``haproxy(first, second, ports)``: a `Haproxy` before two servers."""
    program = shutil.which("haproxy", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if program is None:
        pytest.skip("haproxy is not installed")
    with contextlib.ExitStack() as held:

        def start(servers, ports):
            addresses = [":".join(map(str, server.address)) for server in servers]
            words = dict(
                zip(("first", "second", "first_agent", "second_agent"), [*addresses, *ports], strict=True)
            )
            made = Haproxy(program, tmp_path, **words)
            held.callback(made.close)
            return made

        yield start


def test_haproxy_follows_load_drain_death_and_return(serve, client, dashboard, haproxy, tools):
    servers, ports = [serve(), serve()], free_ports()
    names = ("first", "second")
    controls = [f"{name}={server.control}" for name, server in zip(names, servers, strict=True)]
    checks = [f"{name}=127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)]
    dashboard(controls, "--capacity", "20", *(part for check in checks for part in ("--agent-check", check)))
    proxy = haproxy(servers, ports)

    def wait(name, status, *weights):
        def look():
            found = proxy.servers().get(name)
            return found and found[0].startswith(status) and (not weights or found[1] in weights)

        tools.wait_until(look, f"{name} is {status} {weights}: ", proxy.servers)

    near = range(90, 101)  # HAProxy's own check has a connection, too
    for name in names:
        wait(name, "UP", *near)
    assert proxy.get() == "HTTP/1.1 200 OK"
    held = [client(servers[0]).stream().held() for _ in range(10)]
    wait("first", "UP", *range(40, 51))
    wait("second", "UP", *near)
    servers[0].kill(signal.SIGTERM)  # the streams hold it up
    wait("first", "DRAIN")
    before = proxy.counts()
    assert {proxy.get() for _ in range(10)} == {"HTTP/1.1 200 OK"}
    after = proxy.counts()
    assert (after["first"] - before["first"], after["second"] - before["second"]) == (0, 10)
    for one in held:
        one.close()
    servers[0].wait_end()
    wait("first", "DOWN")
    assert proxy.get() == "HTTP/1.1 200 OK"
    with socket.create_server(servers[0].address):  # its address is free, and its control socket's path
        pass
    address = ":".join(map(str, servers[0].address))
    again = serve("app:app", "--control", servers[0].control, bind=(address,), ready=False)
    again.wait_log("is ready", 2)
    wait("first", "UP", *near)
    before = proxy.counts()
    assert {proxy.get() for _ in range(10)} == {"HTTP/1.1 200 OK"}
    assert proxy.counts()["first"] > before["first"]
