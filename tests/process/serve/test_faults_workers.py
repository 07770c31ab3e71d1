"""Workers that die, at each moment of their life, or that stop: what they had not taken is served by others."""

import contextlib
import os
import signal

import pytest

from fdpass.serve.operator.client import connected

QUEUED = 64
STUCK_MS = 500
GATE = """
import os, time
while not os.path.exists("open"):
    time.sleep(0.01)
from app import app
"""
"""An application whose import ends once there is a file of the name "open"."""


def kill(server, pid):
    """Kill a worker, and wait until the server knows it."""
    os.kill(pid, signal.SIGKILL)
    server.wait_log(f"worker {pid} ended (killed by SIGKILL)")


def replaced(count=2, without=()):
    """Whether so many workers are ready, and none of these among them."""

    def so(status):
        ready = [worker["pid"] for worker in status["workers"] if worker["state"] == "ready"]
        return len(ready) == len(status["workers"]) == count and not set(ready) & set(without)

    return so


@pytest.fixture
def queue(client, tools):
    """Stop workers, and let ``count`` clients connect and ask: what of them is passed waits in channels."""

    @contextlib.contextmanager
    def queue(server, pids, count=QUEUED):
        server.wait_connections(live=0)
        assert server.address  # asked for while somebody answers
        before = server.status()["connections"]["handed"]
        with contextlib.ExitStack() as held:
            with server.paused():  # so that all of them come at once, while the workers' beats are fresh
                asked = [client(server).send(connection="close") for _ in range(count)]
                for pid in pids:
                    held.enter_context(tools.stopped(pid))
            server.wait_status(lambda status: status["connections"]["handed"] >= before + count)
            yield asked

    return queue


def test_a_worker_killed_before_it_is_ready_is_replaced(serve):
    """Not one of the first: if one of these fails, the server ends."""
    server = serve("gate:app", files={"gate.py": GATE, "open": ""})
    first = server.workers()
    (server.folder / "open").unlink()
    os.kill(first[0], signal.SIGKILL)
    server.wait_status(lambda status: "starting" in {worker["state"] for worker in status["workers"]})
    (starting,) = server.workers("starting")
    os.kill(starting, signal.SIGKILL)
    server.wait_log("a worker ended before it was ready (killed by SIGKILL)")
    (server.folder / "open").touch()
    server.wait_status(replaced(without=[first[0], starting]))
    assert first[1] in server.workers()
    assert server.get()[0] == 200


def test_a_worker_killed_while_idle_is_replaced_and_no_client_notices(serve):
    server = serve()
    killed = server.workers()[0]
    kill(server, killed)
    for _ in range(4):  # also before the next one is ready
        assert server.get()[0] == 200
    server.wait_status(replaced(without=[killed]))
    server.wait_connections(accepted=4, finished=4, live=0, lost=0)


def test_a_worker_killed_while_busy_takes_only_its_own_connections_with_it(serve, client):
    server = serve()
    clients = [client(server).stream().held() for _ in range(10)]
    killed = clients[0].worker
    kill(server, killed)
    assert all(one.ended() for one in clients if one.worker == killed)
    server.wait_connections(accepted=10, live=5, lost=5)
    server.wait_status(replaced(without=[killed]))
    for one in clients:
        one.close()
    server.wait_connections(accepted=10, finished=5, live=0, lost=5)


def test_connections_that_wait_in_the_channel_of_the_only_worker_survive_its_death(serve, queue):
    server = serve("app:app", "--workers", "1")
    (killed,) = server.workers()
    with queue(server, [killed]) as asked:
        server.wait_connections(handed=QUEUED, rehanded=0)
        kill(server, killed)
    server.wait_status(replaced(1))
    assert {one.answered() for one in asked} == set(server.workers())
    server.wait_connections(accepted=QUEUED, handed=2 * QUEUED, rehanded=QUEUED, finished=QUEUED, lost=0)


def test_connections_that_wait_in_a_channel_survive_the_death_of_one_of_two_workers(serve, queue):
    server = serve()
    killed, other = server.workers()
    with queue(server, [killed]) as asked:
        kill(server, killed)
        answers = [one.answered() for one in asked]
    assert answers.count(other) >= QUEUED // 2  # its successor may have served of the rest
    server.wait_connections(accepted=QUEUED, finished=QUEUED, live=0, lost=0, rehanded=QUEUED // 2)


def test_connections_survive_the_death_of_all_workers_while_all_of_them_wait(serve, queue):
    server = serve()
    killed = server.workers()
    with queue(server, killed) as asked:
        for pid in killed:
            kill(server, pid)
    answers = {one.answered() for one in asked}
    assert not answers & set(killed)
    server.wait_connections(accepted=QUEUED, finished=QUEUED, live=0, lost=0)


def test_where_workers_accept_what_a_dead_one_had_not_accepted_is_served_by_others(serve, client, tools):
    server = serve("app:app", "--accept", "worker")
    killed, other = server.workers()
    with tools.stopped(killed):
        asked = [client(server).send(connection="close") for _ in range(QUEUED)]
        kill(server, killed)
    assert {one.answered() for one in asked} >= {other}
    server.wait_connections(accepted=QUEUED, finished=QUEUED, live=0, lost=0)


@pytest.mark.parametrize("accept", ["dispatcher", "worker"])
def test_what_waits_for_a_worker_that_does_not_move_is_served_by_others(serve, client, tools, accept):
    server = serve("app:app", "--accept", accept)
    still, other = server.workers()
    with tools.stopped(still):
        asked = [client(server).send(connection="close") for _ in range(QUEUED)]
        assert {one.answered() for one in asked} == {other}
        server.wait_connections(accepted=QUEUED, finished=QUEUED, live=0, lost=0)
        # It has lost its turn, and what was in its channel; nothing new comes to it.
        server.wait_status(lambda status: any(each["lag_ms"] > STUCK_MS for each in status["workers"]))
        assert {int(server.get()[1]) for _ in range(10)} == {other}
    tools.wait_until(lambda: int(server.get()[1]) == still, "it serves again: ", server.status)
    assert server.workers() == [still, other]


def test_a_worker_that_is_told_to_go_while_it_does_not_move_leaves_its_queue_to_its_successor(serve, queue):
    server = serve("app:app", "--workers", "1", "--graceful-timeout", "0")
    (still,) = server.workers()
    with queue(server, [still]) as asked, connected(server.control) as channel:
        channel.send(b'{"do": "reload"}')
        fresh = {one.answered() for one in asked}
        assert still not in fresh
        server.wait_connections(accepted=QUEUED, finished=QUEUED, live=0, lost=0)
        assert b'"ok": true' in channel.recv().data
    server.wait_log(f"worker {still} has retired")


def test_all_workers_killed_again_and_again_leave_a_server_that_serves(serve):
    server = serve()
    for round in range(3):
        for pid in server.workers():
            kill(server, pid)
        assert server.get()[0] == 200
        server.wait_connections(accepted=round + 1, finished=round + 1, lost=0)
    server.wait_status(replaced())
