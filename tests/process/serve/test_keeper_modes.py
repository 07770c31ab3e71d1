"""``--keeper on`` without custody, and in the other modes: what the death of the dispatcher costs there."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from ._keeper_here import needs_keeper
from ._keeper_load import POST, Load, descriptors, wait_for_descriptors
from .conftest import state_of, wait_until

pytestmark = needs_keeper

UNKEPT = pytest.mark.parametrize("flags", [("--custody", "off"), ("--accept", "worker")], ids=["off", "worker"])


@contextlib.contextmanager
def without_dispatcher(server):
    """No dispatcher runs: the keeper is stopped, and so makes none."""
    dead = server.dispatcher
    os.kill(server.pid, signal.SIGSTOP)
    try:
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: state_of(dead) in "ZX", "dead: ", lambda: state_of(dead))
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@UNKEPT
def test_without_custody_connections_stay_with_their_workers(kept, client, flags):
    server = kept("--keeper", "on", *flags)
    workers = server.workers()
    clients = [client(server) for _ in range(6)]
    before = [one.ask().told()["pid"] for one in clients]
    slow = client(server).ask("/gate", "slow", method="POST", body=b"x")
    server.wait_executed("slow")
    for count in range(3):
        server.kill_dispatcher()
        assert [one.ask().told()["pid"] for one in clients] == before
        assert client(server).ask().told()["pid"] in workers
        server.wait_connections(live=8 + count, lost=0)
    (server.folder / "slow.open").touch()
    assert slow.told()["token"] == "slow"
    assert sorted(server.workers()) == sorted(workers)


@UNKEPT
def test_without_custody_ends_that_nobody_read_are_counted(kept, client, flags):
    """Connections end, others come and wait in the backlog, while no dispatcher runs."""
    server = kept("--keeper", "on", *flags)
    clients = [client(server) for _ in range(10)]
    assert all(one.ask().told() for one in clients)
    server.wait_connections(live=10)
    with without_dispatcher(server):
        for one in clients[:7]:
            one.close()
        others = [client(server).ask(token=str(index)) for index in range(5)]
    assert [one.told()["token"] for one in others] == ["0", "1", "2", "3", "4"]
    server.wait_connections(live=8, finished=7, lost=0)
    assert all(one.ask().told() for one in clients[7:])


@UNKEPT
def test_without_custody_a_dead_worker_takes_only_its_own_connections(kept, client, flags):
    server = kept("--keeper", "on", *flags)
    clients = [client(server) for _ in range(8)]
    pids = [one.ask().told()["pid"] for one in clients]
    dead = pids[0]
    with without_dispatcher(server):
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: state_of(dead) in "ZX", "dead: ", lambda: state_of(dead))
    server.wait_log(f"worker {dead} ended (killed by SIGKILL); another is started")
    for one, pid in zip(clients, pids, strict=True):
        assert (one.rest() == b"") if pid == dead else (one.ask().told()["pid"] == pid)
    server.wait_connections(live=8 - pids.count(dead), lost=pids.count(dead))
    server.wait_status(lambda status: [w["state"] for w in status["workers"]] == ["ready", "ready"])


@UNKEPT
def test_without_custody_one_death_after_the_other_under_load(kept, client, flags):
    """No request fails, none is answered twice, and no connection or descriptor is left over."""
    server = kept("--keeper", "on", *flags)
    with contextlib.closing(client(server)) as first:
        first.ask().told()
    server.wait_connections(live=0)
    before = len(descriptors(server))
    load = Load()
    with load.of(client, server, clients=8, keep=3, **POST):
        for _ in range(20):
            server.kill_dispatcher()
    assert load.failures == []
    assert min(load.counts) > 0
    tokens = [token for token, *_ in server.executed()]
    assert len(tokens) == len(set(tokens))
    server.wait_connections(live=0, lost=0)
    wait_for_descriptors(server, before)


@pytest.mark.parametrize(
    "flags", [(), ("--custody", "off"), ("--accept", "worker")], ids=["custody", "off", "worker"]
)
def test_a_dispatcher_can_die_after_any_line(kept, client, flags):
    """See ``_dying_dispatcher.py``: no request fails, and none is answered twice."""
    count = 40
    launch = (sys.executable, str(Path(__file__).parent / "_dying_dispatcher.py"), str(count))
    server = kept("--keeper", "on", *flags, launch=launch)
    load = Load()
    with load.of(client, server, clients=6, keep=3, **POST):
        os.kill(server.dispatcher, signal.SIGKILL)
        wait_until(
            lambda: load.failures or server.log().count(": another takes over") >= count - 1,
            "deaths: ",
            server.log,
        )
        server.wait_log("takes over from a dead one", count // 5)  # the others died before they came so far
    assert load.failures == []
    tokens = [token for token, *_ in server.executed()]
    assert len(tokens) == len(set(tokens)) > 0
    server.wait_connections(live=0)
