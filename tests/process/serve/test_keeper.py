"""``--keeper on``: ``kill -9`` of the dispatcher, and what each connection, request and signal comes to."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from ._keeper_here import needs_keeper
from ._keeper_load import Load, descriptors, wait_for_descriptors
from .conftest import LIMIT, descendants, state_of, stopped, wait_until

pytestmark = needs_keeper


@pytest.mark.parametrize("flags", [(), ("--loop", "uvloop"), ("--balance", "hash")], ids=["", "uvloop", "hash"])
def test_idle_connections_go_on_and_workers_stay(kept, client, flags):
    server = kept("--keeper", "on", *flags)
    workers = server.workers()
    clients = [client(server) for _ in range(6)]
    before = [one.ask().told()["pid"] for one in clients]
    dead = server.kill_dispatcher()
    assert [one.ask().told()["pid"] for one in clients] == before
    assert client(server).ask().told()["pid"] in workers
    status = server.wait_connections(live=7, lost=0)
    assert status["server"]["pid"] == server.pid
    assert status["server"]["dispatcher"] not in {dead, server.pid}
    assert sorted(server.workers()) == sorted(workers)


def test_a_request_in_progress_is_answered_by_its_worker(kept, client):
    server = kept("--keeper", "on")
    one = client(server).ask("/gate", "slow", method="POST", body=b"x" * 1000)
    pid = server.wait_executed("slow")
    server.kill_dispatcher()
    (server.folder / "slow.open").touch()
    told = one.told()
    assert (told["pid"], told["attempt"], told["length"]) == (pid, 0, 1000)
    assert len(server.executed()) == 1


def test_a_stop_that_comes_during_a_takeover_counts_once(kept, client):
    """Counted twice, it would be a stop at once, and the request would get a 502."""
    server = kept("--keeper", "on")
    one = client(server).ask("/gate", "slow", method="POST", body=b"x")
    server.wait_executed("slow")
    dead, workers = server.dispatcher, server.workers()
    os.kill(dead, signal.SIGKILL)
    (heir,) = wait_until(lambda: set(descendants(server.pid)) - {dead, *workers}, "a dispatcher: ", server.log)
    with stopped(heir):
        server.kill(signal.SIGTERM)
        wait_until(lambda: signal.SIGUSR2 in pending(heir), "told: ", lambda: pending(heir))
    server.wait_heard("STOPPING=1")
    (server.folder / "slow.open").touch()
    assert one.told()["length"] == 1
    assert server.wait_end() == 0


def pending(pid):
    """The signals that wait for a process (proc(5))."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    return {number for number in signal.valid_signals() for mask in masks if mask >> (number - 1) & 1}


def test_clients_that_come_meanwhile_wait_in_the_backlog(kept, client):
    """No dispatcher runs: the keeper is stopped, and so makes none."""
    server = kept("--keeper", "on")
    client(server).ask().told()
    dead = server.dispatcher
    os.kill(server.pid, signal.SIGSTOP)
    try:
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: state_of(dead) in "ZX", "dead: ", lambda: state_of(dead))
        clients = [client(server).ask(token=str(index)) for index in range(5)]
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert [one.told()["token"] for one in clients] == ["0", "1", "2", "3", "4"]


def test_a_worker_that_dies_after_the_dispatcher_is_replaced(kept, client):
    """It is not the new dispatcher's child; its connections go on all the same."""
    server = kept("--keeper", "on")
    clients = [client(server) for _ in range(6)]
    pids = [one.ask().told()["pid"] for one in clients]
    server.kill_dispatcher()
    server.kill_worker(pids[0])
    assert f"worker {pids[0]} ended (killed by SIGKILL); another is started" in server.log()
    assert all(one.ask().told()["pid"] != pids[0] for one in clients)
    server.wait_status(lambda status: [w["state"] for w in status["workers"]] == ["ready", "ready"])


def test_a_worker_and_the_dispatcher_that_die_together_cost_nothing(kept, client):
    server = kept("--keeper", "on")
    clients = [client(server) for _ in range(6)]
    pids = [one.ask().told()["pid"] for one in clients]
    dead = server.dispatcher
    os.kill(server.pid, signal.SIGSTOP)
    for pid in (dead, pids[0]):
        os.kill(pid, signal.SIGKILL)
    os.kill(server.pid, signal.SIGCONT)
    assert all(one.ask().told()["pid"] != pids[0] for one in clients)


def test_one_death_after_the_other_under_load(kept, client):
    """No request fails, no connection is opened anew, and no descriptor is left over."""
    server = kept("--keeper", "on")
    with contextlib.closing(client(server)) as first:
        first.ask().told()
    server.wait_connections(live=0)
    before = len(descriptors(server))
    load = Load()
    with load.of(client, server, clients=6, keep=4):
        for _ in range(20):
            server.kill_dispatcher()
    assert load.failures == []
    assert min(load.counts) > 0
    server.wait_connections(live=0, lost=0)
    wait_for_descriptors(server, before)


def test_a_dispatcher_that_hangs_is_replaced(kept, client):
    server = kept("--keeper", "on")
    one = client(server)
    pid = one.ask().told()["pid"]
    hung = server.dispatcher
    os.kill(hung, signal.SIGSTOP)
    server.wait_log("takes over from a dead one")
    assert f"the dispatcher {hung} does not run: it is killed" in server.log()
    assert one.ask().told()["pid"] == pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_to_the_keeper_stops_the_server(kept, client, number):
    """With requests finished, and nothing left over."""
    server = kept("--keeper", "on", "--pidfile", "pid")
    server.kill_dispatcher()
    assert (server.folder / "pid").read_text() == f"{server.pid}\n"
    one = client(server).ask("/gate", "slow")
    server.wait_executed("slow")
    server.kill(number)
    server.wait_log("stopping:")
    (server.folder / "slow.open").touch()
    assert one.told()["token"] == "slow"
    assert server.wait_end() == 0
    assert not os.path.exists(server.control)
    assert not (server.folder / "pid").exists()


def test_a_stop_outlives_the_dispatcher(kept, client):
    """The next dispatcher goes on with it."""
    server = kept("--keeper", "on")
    one = client(server).ask("/gate", "slow")
    server.wait_executed("slow")
    dead = server.dispatcher
    server.kill(signal.SIGTERM)
    server.wait_log("stopping:")
    os.kill(dead, signal.SIGKILL)
    server.wait_log("stopping:", 2)
    (server.folder / "slow.open").touch()
    assert one.told()["token"] == "slow"
    assert server.wait_end() == 0


def test_a_reload_and_a_new_scale_are_the_next_dispatchers_too(kept, client):
    server = kept("--keeper", "on")
    one = client(server)
    one.ask().told()
    assert server.cli("scale", "3").returncode == 0
    server.kill_dispatcher()
    old = server.workers()
    assert len(old) == 3
    server.kill(signal.SIGHUP)
    server.wait_status(lambda status: [w["generation"] for w in status["workers"]] == [2, 2, 2])
    server.kill_dispatcher()
    assert server.status()["server"]["generation"] == 2
    assert one.ask().told()["pid"] not in old
    assert server.cli("reload").returncode == 0
    assert server.status()["server"]["generation"] == 3


def test_a_worker_that_retires_does_not_begin_anew_for_the_next_dispatcher(kept, client):
    """Else the dispatcher would kill it before it had told all clients to go."""
    server = kept("--keeper", "on", "--graceful-timeout", "60")
    one = client(server).stream().held()
    server.kill(signal.SIGHUP)
    server.wait_log("ending 1 event stream one by one")
    for _ in range(2):
        server.kill_dispatcher()
    one.close()
    server.wait_log(f"worker {one.worker} has retired")
    assert server.log().count("one by one") == 1


def test_the_sums_of_the_status_outlive_the_dispatcher(kept, client):
    server = kept("--keeper", "on")
    for _ in range(3):
        with contextlib.closing(client(server)) as one:
            one.ask().told()
    server.wait_connections(live=0, finished=3)  # else a connection that its client closed would move too
    one = client(server)
    server.kill_worker(one.ask().told()["pid"])
    one.ask().told()

    sums = {"live": 1, "finished": 3, "accepted": 4, "moved": 1, "rehanded": 1, "handed": 5}
    assert server.wait_connections(**sums)
    server.kill_dispatcher()
    server.wait_connections(**sums)


def test_the_access_log_is_the_same_file_in_the_next_dispatcher(kept, client, tmp_path):
    path = tmp_path / "access"
    server = kept("--keeper", "on", "--access-log", str(path))
    one = client(server)
    one.ask(token="first").told()
    server.kill_dispatcher()
    os.rename(path, tmp_path / "access.1")
    server.kill(signal.SIGUSR1)
    server.wait_log("access log opened again")
    one.ask(token="second").told()
    wait_until(lambda: "second" in path.read_text(), "logged: ", path.read_text)
    assert "second" not in (tmp_path / "access.1").read_text()


def test_a_unix_socket_and_its_file_outlive_the_dispatcher(kept, client, tmp_path):
    path = str(tmp_path / "sock")
    server = kept("--keeper", "on", bind=(f"unix:{path}",))
    one = client(server, address=path)
    pid = one.ask().told()["pid"]
    server.kill_dispatcher()
    assert one.ask().told()["pid"] == pid
    assert client(server, address=path).ask().told()["token"] == "-"
    assert server.stop() == 0
    assert not os.path.exists(path)


def test_a_start_that_fails_ends_the_server_as_without_a_keeper(serve):
    server = serve("none:app", "--keeper", "on", ready=False)
    assert server.wait_end() != 0
    assert "there is no module 'none'" in server.log()
    assert "takes over" not in server.log()
    assert not os.path.exists(server.control)


def test_processes_that_an_application_leaves_are_reaped(serve):
    """The keeper is the parent of those whose own parents have ended."""
    app = (
        "import os\n"
        "from app import app\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        os._exit(0)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    server = serve("own:app", "--keeper", "on", files={"own.py": app})
    assert server.get()[0] == 200
    with contextlib.suppress(FileNotFoundError):
        wait_until(
            lambda: all(state_of(pid) != "Z" for pid in descendants(server.pid)),
            "reaped, of ",
            lambda: descendants(server.pid),
        )


def test_the_totals_of_the_status_outlive_the_dispatcher(kept, client):
    """Those of a worker that has died are the dispatcher's; those of living workers are in the ledger."""
    server = kept("--keeper", "on", "--workers", "1")
    with contextlib.closing(client(server)) as one:
        pid = one.ask().told()["pid"]
    server.wait_status(lambda status: status["requests"]["responses"]["2xx"] == 1)  # the worker's next beat
    server.kill_worker(pid)
    with contextlib.closing(client(server)) as one:
        one.ask().told()
    server.cli("reload")

    def counts(status):
        reloads = {name: status["reloads"][name] for name in ("succeeded", "failed", "refused")}
        return status["deaths"], status["starts"], reloads, status["requests"]["responses"]["2xx"]

    expected = (
        {"SIGKILL": 1},
        {"started": 3, "failed": 0, "restarts": 1, "failure": ""},
        {"succeeded": 1, "failed": 0, "refused": 0},
        2,
    )
    before = server.wait_status(lambda status: counts(status) == expected)
    server.kill_dispatcher()
    after = server.wait_status(lambda status: counts(status) == expected)
    assert after["server"]["uptime"] > before["server"]["uptime"]


def test_events_can_be_followed_over_the_dispatchers_death(kept):
    server = kept("--keeper", "on", "--workers", "1")
    command = [sys.executable, "-m", "fdpass", "events", "--follow", "--json", "--control", server.control]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follow:
        found = [json.loads(follow.stdout.readline())]
        server.kill_dispatcher()
        while found[-1]["event"] != "dispatcher_adopted":
            found.append(json.loads(follow.stdout.readline()))
        server.stop()
        found += map(json.loads, follow.stdout)
        assert follow.wait(LIMIT) == 0
    numbers = [event["id"] for event in found]
    assert numbers == sorted(set(numbers))
    assert found[-1]["event"].startswith(("server_", "worker_"))


def test_with_few_descriptors_the_next_dispatcher_begins(kept, client):
    """The table of descriptors has room for more of them than the limit allows, once many were open."""
    limit = 150
    launch = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", sys.executable, "-m", "fdpass")
    server = kept("--keeper", "on", launch=launch)
    clients = [client(server).ask() for _ in range(limit // 2)]
    for one in clients:
        one.told()
    for one in clients[1:]:
        one.close()
    server.kill_dispatcher()
    assert clients[0].ask().told()
    assert client(server).ask().told()


def test_with_more_clients_than_descriptors_the_next_dispatcher_begins_and_the_others_are_served_later(
    kept, client
):
    """The dispatcher leaves the last descriptors for its successor, and for starts of workers."""
    launch = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh", sys.executable, "-m", "fdpass")
    server = kept("--keeper", "on", launch=launch)
    clients = [client(server).ask() for _ in range(50)]
    server.wait_log("cannot accept: ")
    held = clients[: server.status()["connections"]["live"]]
    for one in held:
        one.told()
    server.kill_dispatcher()
    killed = server.workers()[0]
    os.kill(killed, signal.SIGKILL)
    server.wait_status(lambda _: killed not in (ready := server.workers()) and len(ready) == 2)
    for one in held:
        one.ask().told()
        one.close()
    for one in clients[len(held) :]:
        one.told()
        one.close()


def test_a_dispatcher_that_comes_late_in_a_stop_starts_no_worker(kept, client):
    """The listeners are closed, and one worker is still busy."""
    server = kept("--keeper", "on", "--workers", "3")
    one = client(server).ask("/gate", "slow")
    server.wait_executed("slow")
    dead = server.dispatcher
    server.kill(signal.SIGTERM)
    server.wait_log("has retired", 2)
    os.kill(dead, signal.SIGKILL)
    server.wait_log("stopping:", 2)
    (server.folder / "slow.open").touch()
    assert one.told()["token"] == "slow"
    assert server.wait_end() == 0
    assert server.log().count("has ended") == 1
    assert "before it was ready" not in server.log()


def test_a_reload_is_answered_by_the_next_dispatcher(kept):
    server = kept("--keeper", "on", "--workers", "1")
    app = server.folder / "kept.py"
    app.write_text("import time\ntime.sleep(1)\n" + app.read_text())
    command = [sys.executable, "-m", "fdpass", "reload", "--control", server.control]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as reload:
        server.wait_log("reload: starting generation 2")
        server.kill_dispatcher()
        said, _ = reload.communicate(timeout=LIMIT)
    assert (reload.returncode, "serves" in said) == (0, True), said


def test_the_bytes_of_the_status_outlive_the_dispatcher(kept, client):
    server = kept("--keeper", "on", "--workers", "1")
    with contextlib.closing(client(server)) as one:
        one.ask().told()
    before = server.wait_status(lambda status: status["connections"]["live"] == 0)["bytes"]
    server.kill_dispatcher()
    assert server.status()["bytes"] == before
    assert before["received"] > 0
