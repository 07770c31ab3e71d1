"""``fdpass dashboard`` beside real servers, and ``fdpass serve --dashboard``, which makes it a child process."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from ._dashboard import request

LIMIT = 60
QUICK = 5  # seconds: far less than a dashboard would need that waits for a server which does not answer


def test_figures_follow_the_server(serve, dashboard, tools):
    server = serve()
    shown = dashboard(server)
    assert shown.get("/livez") == (200, "control: alive\n")
    assert shown.get("/readyz") == (200, "control: serving: 2 of 2 workers ready\n")
    for _ in range(7):
        assert server.get()[0] == 200
    tools.wait_until(
        lambda: shown.metrics()['fdpass_connections_accepted_total{server="control"}'] == 7, "7: ", shown.metrics
    )
    metrics = shown.metrics()
    assert metrics['fdpass_up{server="control"}'] == 1
    assert metrics['fdpass_workers{server="control",state="ready"}'] == 2
    assert metrics['fdpass_connections_limit{server="control"}'] > 0


def test_without_a_control_socket_the_running_servers_are_found(serve, dashboard):
    """Others may run on this machine, too."""
    server = serve()
    shown = dashboard([])
    assert server.control in {each["control"] for each in json.loads(shown.get("/status.json")[1])["servers"]}


def test_a_saved_connection_and_a_death_are_counted(kept, client, dashboard, tools):
    server = kept("--workers", "2")
    shown = dashboard(server)
    one = client(server)
    before = one.ask().told()
    server.kill_worker(before["pid"])
    assert one.ask().told()["pid"] != before["pid"]
    name = 'fdpass_connections_recovered_total{outcome="moved",server="control"}'
    tools.wait_until(lambda: shown.metrics()[name] == 1, f"{name} is 1: ", shown.metrics)
    assert shown.metrics()['fdpass_worker_deaths_total{cause="SIGKILL",server="control"}'] == 1


def test_readiness_ends_with_a_stop_and_the_dashboard_stays(serve, client, dashboard, tools):
    server = serve()
    shown = dashboard(server)
    assert shown.get("/readyz")[0] == 200
    held = client(server).stream().held()
    server.kill(signal.SIGTERM)
    stopping = (503, "control: stopping: the server is stopping\n")
    tools.wait_until(lambda: shown.get("/readyz") == stopping, "stopping: ", lambda: shown.get("/readyz"))
    assert shown.metrics()['fdpass_stopping{server="control"}'] == 1
    assert shown.metrics()['fdpass_ready{server="control"}'] == 0
    held.close()
    server.wait_end()
    tools.wait_until(lambda: shown.state() == "silent", "silent: ", shown.state)
    assert shown.get("/readyz") == (503, f"control: silent: no server listens at {server.control}\n")
    assert shown.metrics() == {'fdpass_up{server="control"}': 0, 'fdpass_ready{server="control"}': 0}


def test_a_server_that_hangs_is_shown_as_silent_and_the_dashboard_is_quick(serve, dashboard, tools):
    first, second = serve(), serve()
    shown = dashboard([first, second])
    assert shown.get("/readyz")[0] == 200
    with first.paused():
        tools.wait_until(lambda: shown.state(first.control) == "silent", "silent: ", shown.state)
        before = time.monotonic()
        for path in ("/", "/metrics", "/status.json", "/livez", "/readyz"):
            shown.get(path)
        assert time.monotonic() < before + QUICK
        status, body = shown.get("/readyz")
        assert status == 503
        assert f"{first.control}: silent: the server has not answered within 2 s\n" in body
        assert f"{second.control}: serving: 2 of 2 workers ready\n" in body
    tools.wait_until(lambda: shown.get("/readyz")[0] == 200, "ready: ", lambda: shown.get("/readyz"))


def test_actions_reload_scale_and_retire(serve, dashboard, tools):
    server = serve()
    shown = dashboard(server, "--allow-actions")
    assert len(shown.token) >= 32
    assert shown.act("reload", server="control") == (200, {"ok": True, "generation": 2})
    assert shown.act("scale", server="control", workers=3) == (200, {"ok": True, "workers": 3})
    pid = server.workers()[0]
    assert shown.act("retire", server="control", pid=pid) == (200, {"ok": True})
    assert pid not in server.workers()
    status, reply = shown.act("retire", server="control", pid=1)
    assert (status, reply["error"]) == (409, "no worker has the process ID 1: fdpass status lists the workers")
    assert shown.act("reload", token="another-token-of-some-length", server="control")[0] == 401
    assert server.status()["server"]["generation"] == 2


def test_a_token_of_the_environment_is_used(dashboard):
    token = "given-by-the-environment"
    env = {**os.environ, "FDPASS_DASHBOARD_TOKEN": token, "FDPASS_DASHBOARD_ALLOW_ACTIONS": "1"}
    shown = dashboard("/nowhere/control", env=env)
    assert shown.token == token
    assert shown.act("check")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_dashboard_with_its_streams(dashboard, number):
    shown = dashboard("/nowhere/control")
    connection = http.client.HTTPConnection(*shown.address, timeout=LIMIT)
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.readline().startswith(b"event: history")
    shown.process.send_signal(number)
    assert shown.process.wait(LIMIT) == 0
    response.read()
    connection.close()


def test_clients_that_send_nothing_take_the_dashboard_from_no_other(dashboard):
    shown = dashboard("/nowhere/control")
    with contextlib.ExitStack() as held:
        clients = [held.enter_context(socket.create_connection(shown.address, LIMIT)) for _ in range(300)]
        assert shown.get("/status.json")[0] == 200
        assert clients[0].recv(1) == b""  # the oldest one had to go
    shown.process.terminate()
    assert shown.process.communicate(timeout=LIMIT)[1] == ""  # no line of each client


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "fdpass", *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_an_address_in_use_is_told_in_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = command("dashboard", "--bind", f"127.0.0.1:{port}", "--control", "/nowhere/x")
    assert done.returncode == 1
    assert f"cannot listen at 127.0.0.1:{port}: another process listens there already" in done.stderr
    assert "Traceback" not in done.stderr


# The child of a server


@pytest.fixture
def port():
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def ready(port):
    """The answer of ``/readyz``; None if nothing listens."""
    try:
        return request(("127.0.0.1", port), "GET", "/readyz")
    except OSError:
        return None


def child_of(server, tools):
    """The pid of the dashboard, which has no number of a worker."""
    workers = {worker["pid"] for worker in server.status()["workers"]}
    (found,) = set(tools.descendants(server.dispatcher)) - workers
    return found


READY = (200, "control: serving: 2 of 2 workers ready\n")


def test_a_server_starts_its_dashboard_and_starts_it_again(serve, port, tools):
    server = serve("app:app", "--dashboard", f"127.0.0.1:{port}")
    tools.wait_until(lambda: ready(port) == READY, "ready: ", server.log)
    assert f"dashboard: http://127.0.0.1:{port}/" in server.log()
    pid = child_of(server, tools)
    os.kill(pid, signal.SIGKILL)
    server.wait_log("the dashboard ended (killed by SIGKILL); it is started again in 0.1 s")
    assert server.get()[0] == 200
    tools.wait_until(lambda: ready(port) == READY, "ready again: ", server.log)
    pid = child_of(server, tools)
    assert server.stop() == 0
    assert not tools.alive(pid)
    assert ready(port) is None


def test_the_dashboard_says_that_its_server_stops_until_the_server_has_stopped(serve, client, port, tools):
    server = serve("app:app", "--dashboard", f"127.0.0.1:{port}")
    tools.wait_until(lambda: ready(port) == READY, "ready: ", server.log)
    held = client(server).stream().held()
    server.kill(signal.SIGTERM)
    stopping = (503, "control: stopping: the server is stopping\n")
    tools.wait_until(lambda: ready(port) == stopping, "stopping: ", server.log)
    held.close()
    assert server.wait_end() == 0
    assert ready(port) is None


def test_the_dashboard_ends_with_a_killed_server(serve, port, tools):
    server = serve("app:app", "--dashboard", f"127.0.0.1:{port}")
    tools.wait_until(lambda: ready(port) == READY, "ready: ", server.log)
    pid = child_of(server, tools)
    server.kill(signal.SIGKILL)
    server.wait_end()
    tools.wait_until(lambda: not tools.alive(pid), "ended: ", server.log)


def test_a_dashboard_without_an_address_holds_no_server_up(serve, tools):
    """It waits for its address, which the server before this one may still have."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = serve("app:app", "--dashboard", f"127.0.0.1:{port}")
        server.wait_log(f"the dashboard waits: cannot listen at 127.0.0.1:{port}")
        assert server.get()[0] == 200
    tools.wait_until(lambda: ready(port) == READY, "ready: ", server.log)
    assert server.log().count("the dashboard waits") == 1


def test_a_stopped_dashboard_holds_no_server_up(serve, port, tools):
    server = serve("app:app", "--dashboard", f"127.0.0.1:{port}")
    tools.wait_until(lambda: ready(port) == READY, "ready: ", server.log)
    with tools.stopped(child_of(server, tools)):
        assert server.get()[0] == 200
        assert server.cli("reload").returncode == 0
        assert server.stop() == 0


@pytest.mark.parametrize("address", ["9100", "127.0.0.1:99999", "unix:/run/x"])
def test_a_malformed_address_is_refused_before_the_start(address):
    done = command("serve", "--dashboard", address, "--check")
    assert done.returncode == 2
    assert f"--dashboard {address!r}: write HOST:PORT" in done.stderr
