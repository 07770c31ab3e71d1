"""``kill -9`` of the keeper, the main process: the server stops, or with ``--orphan continue`` goes on."""

import contextlib
import os
import signal
import socket
import time

import pytest

from fdpass.serve.dispatcher.accept.active_workers import WINDOW
from fdpass.serve.dispatcher.accept.base import BURST

from ._keeper_here import needs_keeper
from .conftest import LIMIT, alive, descendants, state_of, stopped, wait_until

pytestmark = needs_keeper


def processes(server):
    """The server's processes: main, dispatcher, workers."""
    status = server.status()
    return [status["server"]["pid"], status["server"]["dispatcher"], *server.workers()]


def kill_keeper(server):
    """Kill the process that was started, or the one that took its place."""
    pid = server.status()["server"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: state_of(pid) in "ZX", "dead: ", lambda: state_of(pid))
    return pid


def ended(pids):
    return wait_until(lambda: not any(map(alive, pids)), "ended, of ", lambda: [pid for pid in pids if alive(pid)])


def test_the_server_stops_and_finishes_its_requests(kept, client):
    server = kept("--keeper", "on")
    one = client(server).ask("/gate", "slow")
    server.wait_executed("slow")
    pids = processes(server)
    kill_keeper(server)
    server.wait_log("the keeper has ended: the server stops")
    (server.folder / "slow.open").touch()
    assert one.told()["token"] == "slow"
    ended(pids)
    assert "stopping at once" not in server.log()


def test_a_keeper_that_is_killed_while_the_server_stops_changes_nothing(kept, client):
    server = kept("--keeper", "on")
    one = client(server).ask("/gate", "slow")
    server.wait_executed("slow")
    pids = processes(server)
    server.kill(signal.SIGTERM)
    server.wait_log("stopping:")
    server.process.kill()
    server.process.wait()
    (server.folder / "slow.open").touch()
    assert one.told()["token"] == "slow"
    ended(pids)
    assert "stopping at once" not in server.log()


@pytest.mark.parametrize("is_unix", [False, True], ids=["tcp", "unix"])
def test_a_supervisor_can_start_the_service_again_at_once(kept, client, tmp_path, is_unix):
    """At the same address, with the same control socket and pidfile, while the first server finishes a request."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = str(tmp_path / "sock") if is_unix else ("127.0.0.1", port)
    bind = f"unix:{address}" if is_unix else f"127.0.0.1:{port}"
    path, pidfile = str(tmp_path / "control"), tmp_path / "pid"
    flags = ("--keeper", "on", "--control", path, "--pidfile", str(pidfile))
    first = kept(*flags, bind=(bind,))
    first.control = path
    one = client(first, address=address).ask("/gate", "slow")
    first.wait_executed("slow")
    pids = processes(first)
    first.process.kill()
    second = kept(*flags, bind=(bind,), files={"second": ""})
    second.control = path
    assert second.status()["server"]["pid"] == second.pid
    assert client(second, address=address).ask(token="new").told()["pid"] in second.workers()
    (first.folder / "slow.open").touch()
    assert one.told()["token"] == "slow"
    ended(pids)
    assert os.path.exists(path)
    assert pidfile.read_text() == f"{second.pid}\n"
    assert client(second, address=address).ask().told()["pid"] in second.workers()


def test_the_next_server_waits_while_the_first_one_drains_its_backlog(kept, client):
    """Its workers are stopped, so that the dispatcher cannot hand out what waits."""
    count = 2 * WINDOW + 2 * BURST  # more than both workers are sent, and the dispatcher accepts with them
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = kept("--keeper", "on", bind=(f"127.0.0.1:{port}",))
    pids = processes(first)
    with contextlib.ExitStack() as held:
        for pid in pids[2:]:
            held.enter_context(stopped(pid))
        clients = [client(first).ask(token=str(index)) for index in range(count)]
        first.process.kill()
        first.wait_log("the keeper has ended: the server stops")
        flags = ("--keeper", "on", "--control", first.control)
        second = kept(*flags, bind=(f"127.0.0.1:{port}",), ready=False)
        second.control = first.control
        second.wait_log("waiting until the server that is stopping closes its listeners")
    assert {one.told()["token"] for one in clients} == {str(index) for index in range(count)}
    second.wait_heard("READY=1")
    assert client(second).ask().told()["pid"] in second.workers()
    ended(pids)


def test_continue_makes_a_new_keeper(kept, client):
    """The dispatcher becomes the keeper: connections, workers and requests go on, and it reaps the workers."""
    server = kept("--keeper", "on", "--orphan", "continue", "--pidfile", "pid")
    clients = [client(server) for _ in range(6)]
    before = [one.ask().told()["pid"] for one in clients]
    slow = client(server).ask("/gate", "slow", method="POST", body=b"x")
    server.wait_executed("slow")
    workers = server.workers()
    _, dispatcher, *_ = processes(server)
    kill_keeper(server)
    server.wait_log("takes over from a dead one")
    keeper, successor, *_ = pids = processes(server)
    assert keeper == dispatcher != successor
    assert descendants(keeper)[-1] == successor
    assert (server.folder / "pid").read_text() == f"{keeper}\n"
    assert [one.ask().told()["pid"] for one in clients] == before
    assert sorted(server.workers()) == sorted(workers)
    assert client(server).ask().told()["pid"] in workers
    (server.folder / "slow.open").touch()
    assert slow.told()["token"] == "slow"
    # A worker that dies is reaped, and replaced.
    server.kill_worker(before[0])
    assert f"worker {before[0]} ended (killed by SIGKILL); another is started" in server.log()
    assert all(one.ask().told()["pid"] != before[0] for one in clients)
    wait_until(lambda: state_of(before[0]) == "X", "reaped: ", lambda: state_of(before[0]))
    # The new keeper makes another dispatcher, and signals go to it.
    os.kill(successor, signal.SIGKILL)
    server.wait_log("takes over from a dead one", 2)
    os.kill(keeper, signal.SIGHUP)
    server.wait_status(lambda status: [w["generation"] for w in status["workers"]] == [2, 2])
    assert [one.ask().told()["token"] for one in clients] == ["-"] * 6
    pids += processes(server)
    os.kill(keeper, signal.SIGTERM)
    ended(pids)
    assert not os.path.exists(server.control)
    assert not (server.folder / "pid").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address, LIMIT)


def test_continue_again_and_again(kept, client):
    """Each keeper was a dispatcher before; no descriptor is left over."""
    server = kept("--keeper", "on", "--orphan", "continue")
    one = client(server)
    pid = one.ask().told()["pid"]
    counts = []
    for index in range(4):
        dead = kill_keeper(server)
        server.wait_log("takes over from a dead one", index + 1)
        keeper = server.status()["server"]["pid"]
        assert keeper != dead
        assert one.ask().told()["pid"] == pid
        counts.append(len(os.listdir(f"/proc/{keeper}/fd")))

    def now():
        return len(os.listdir(f"/proc/{keeper}/fd"))  # with that of a client of the control socket, for a moment

    wait_until(lambda: now() <= counts[0], f"{counts} descriptors, and now ", now)
    pids = processes(server)
    assert server.cli("stop").returncode == 0
    ended(pids)


def test_a_keeper_that_died_before_its_dispatcher_looked(kept, client):
    """Both are dead to the dispatcher that starts: it sees that its parent is another process."""
    server = kept("--keeper", "on")
    one = client(server)
    one.ask().told()
    pids = processes(server)
    for pid in pids[:2]:
        os.kill(pid, signal.SIGKILL)
    ended(pids)  # without both of them the workers finish
    assert one.rest() == b""


HANGS = """
import logging, os, time

class Handler(logging.StreamHandler):
    def emit(self, record):
        super().emit(record)
        while "scaling" in record.getMessage() and os.path.exists("hang"):
            time.sleep(0.01)
"""
HANGING_LOG = """
{"version": 1, "handlers": {"hangs": {"class": "hangs.Handler"}},
 "loggers": {"fdpass": {"handlers": ["hangs"], "propagate": false}}}
"""


def test_a_dispatcher_whose_loop_hangs_is_replaced(kept, client):
    """In code that an operator can give it: a handler of the log."""
    server = kept(
        *("--keeper", "on", "--log-config", "log.json"),
        files={"hangs.py": HANGS, "log.json": HANGING_LOG, "hang": ""},
        env={"PYTHONPATH": ":".join((".", os.environ.get("PYTHONPATH", "")))},
    )
    one = client(server)
    pid = one.ask().told()["pid"]
    hung = server.status()["server"]["dispatcher"]
    server.kill(signal.SIGTTIN)
    server.wait_log("scaling from 2 to 3 workers")
    assert one.ask().told()["pid"] == pid
    server.wait_log("takes over from a dead one")
    assert f"the dispatcher {hung} does not run: it is killed" in server.log()
    assert one.ask().told()["pid"] == pid


def test_a_keeper_that_was_stopped_goes_on(kept, client):
    """As by Ctrl-Z and fg. Its wait ends without a signal, after its time is over."""
    server = kept("--keeper", "on")
    one = client(server)
    pids = processes(server)
    for _ in range(3):
        with stopped(server.pid):
            time.sleep(1.2)  # longer than the keeper waits at once
        assert one.ask().told()["pid"] in pids[2:]
    os.kill(pids[1], signal.SIGKILL)
    server.wait_log("takes over from a dead one")
    assert server.status()["server"]["pid"] == server.pid
    assert one.ask().told()["pid"] in pids[2:]
    assert server.stop() == 0
