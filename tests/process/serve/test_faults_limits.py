"""No room: in a table of descriptors, on a disk, in the queue of signals. The server holds out, and goes on."""

import itertools
import os
import resource
import select
import signal
import time
from contextlib import contextmanager

import pytest

from fdpass.serve.operator.client import connected


@contextmanager
def full_table(pid, spare=0):
    """A process that can open so many descriptors more, until the end."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
    limit = next(itertools.islice((number for number in itertools.count() if number not in used), spare, None))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def full_dispatcher(server, spare=0):
    """The same for the dispatcher, with a control channel that was opened before."""
    server.wait_connections(live=0)
    dispatcher = server.dispatcher
    with connected(server.control) as channel:
        channel.send(b'{"do": "status"}')
        channel.recv()  # by now the clients that asked before are gone
        with full_table(dispatcher, spare):
            yield channel


def test_a_dispatcher_without_room_for_descriptors_neither_spins_nor_dies_and_goes_on_when_there_is_room(
    serve, client, tools
):
    server = serve()
    assert server.get()[0] == 200
    dispatcher = server.dispatcher
    with full_dispatcher(server):
        waiting = [client(server).send(connection="close") for _ in range(20)]
        server.wait_log("cannot accept: ")
        # Somebody waits at the control socket as well.
        with connected(server.control) as channel:
            channel.send(b'{"do": "status"}')
            used, began = tools.cpu_seconds(dispatcher), time.monotonic()
            assert not select.select([one.sock for one in waiting], [], [], 1.0)[
                0
            ]  # nothing comes: it has no room
            share = (tools.cpu_seconds(dispatcher) - used) / (time.monotonic() - began)
            assert share < 0.3, f"{share:.0%} of a processor, for waiting"
            hard = resource.prlimit(dispatcher, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(dispatcher, resource.RLIMIT_NOFILE, (hard, hard))
            assert b'"ok": true' in channel.recv().data
    assert all(one.answered() for one in waiting)
    server.wait_connections(accepted=21, finished=21, live=0, lost=0)
    assert server.log().count("cannot accept") == 1  # one line for it, however long it lasts


def test_a_worker_that_dies_while_there_is_no_room_is_replaced_when_there_is(serve):
    server = serve()
    killed, other = server.workers()
    with full_dispatcher(server):
        os.kill(killed, signal.SIGSTOP)
        os.kill(other, signal.SIGSTOP)
        os.kill(killed, signal.SIGKILL)
        os.kill(other, signal.SIGKILL)
        server.wait_log("trying again in")
    server.wait_status(lambda status: [each["state"] for each in status["workers"]] == ["ready"] * 2)
    assert server.get()[0] == 200
    assert not {killed, other} & set(server.workers())


def test_what_waits_in_the_channel_of_a_dead_worker_is_counted_though_there_is_no_room_to_take_it_back(
    serve, client, tools
):
    server = serve("app:app", "--workers", "1")
    (killed,) = server.workers()
    assert server.address
    with tools.stopped(killed):
        with server.paused():
            asked = [client(server).send(connection="close") for _ in range(40)]
        server.wait_connections(accepted=40)
        with full_table(server.dispatcher, spare=8):
            os.kill(killed, signal.SIGKILL)
            server.wait_log(f"worker {killed} ended")
    status = server.wait_connections(live=0)
    assert status["connections"]["accepted"] == 40
    served = sum(b"HTTP/1.1 200" in one.rest() for one in asked)
    assert served == status["connections"]["finished"]
    assert server.get()[0] == 200


def test_a_worker_without_room_for_descriptors_lives_and_its_losses_are_in_the_books(serve, client):
    server = serve()
    full, other = server.workers()
    assert {int(server.get()[1]) for _ in range(10)} == {full, other}
    server.wait_connections(live=0)
    with full_table(full):
        asked = [client(server).send(connection="close") for _ in range(40)]
        answers = [one.rest().rpartition(b"\n")[2] for one in asked]
        server.wait_connections(accepted=50, live=0)
    served = [int(answer) for answer in answers if answer]
    assert set(served) == {other}
    assert len(served) >= 20  # it does not draw the connections of others to itself
    assert set(server.workers()) == {full, other}
    assert "had no free descriptor" in server.log()
    assert {client(server).stream().held().worker for _ in range(10)} == {full, other}


@pytest.mark.parametrize("json", [(), ("--log-json",)], ids=["plain", "json"])
def test_a_full_disk_under_the_logs_stops_nobody(serve, json):
    app = """
    from app import app as rest
    async def app(scope, receive, send):
        print("a line that stays in the buffer until the end")
        await rest(scope, receive, send)
    """
    full = ("sh", "-c", 'exec "$0" -m fdpass "$@" >/dev/full 2>&1', os.sys.executable)
    buffered = {"PYTHONUNBUFFERED": ""}
    server = serve(
        "prints:app", "--access-log", "/dev/full", *json, files={"prints.py": app}, env=buffered, launch=full
    )
    for _ in range(10):
        assert server.get()[0] == 200
    server.kill(signal.SIGUSR1)
    killed = server.workers()[0]
    os.kill(killed, signal.SIGKILL)
    server.wait_status(lambda status: killed not in [each["pid"] for each in status["workers"]])
    assert server.cli("reload").returncode == 0
    assert server.get()[0] == 200
    server.wait_connections(accepted=11, finished=11, live=0, lost=0)
    assert server.stop() == 0


def test_a_thousand_signals_in_a_second_leave_a_server_that_serves(serve, tmp_path):
    server = serve("app:app", "--access-log", str(tmp_path / "access"))
    rare = {100: signal.SIGTTIN, 200: signal.SIGTTIN, 500: signal.SIGTTOU, 900: signal.SIGTTOU}
    began = time.monotonic()
    for number in range(1000):
        server.kill(rare.get(number, signal.SIGHUP if number % 2 else signal.SIGUSR1))
        if number % 100 == 0:
            assert server.get()[0] == 200
    assert time.monotonic() - began < 20
    assert server.cli("scale", "2").returncode == 0
    assert server.cli("reload").returncode == 0
    status = server.wait_status(lambda status: [each["state"] for each in status["workers"]] == ["ready"] * 2)
    assert 2 <= status["server"]["generation"] < 20  # signals that come while one of their kind waits are one
    assert server.get()[0] == 200
    server.wait_connections(accepted=11, finished=11, live=0, lost=0)
    assert "Traceback" not in server.log()
