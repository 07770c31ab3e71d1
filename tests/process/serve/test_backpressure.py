"""Nobody can take more: then clients wait in the kernel's backlog, and nothing is dropped."""

import contextlib
import select

import pytest

ACCEPTS = pytest.mark.parametrize("accept", ["dispatcher", "worker"])
STUCK_MS = 500  # a beat that is so late is one of a worker that gets nothing


def assert_not_accepted(server, clients, accepted):
    """The dispatcher goes through its loop some times, and leaves them where they are."""
    for _ in range(5):
        assert server.status()["connections"]["accepted"] == accepted
    assert not select.select([one.sock for one in clients], [], [], 0)[0]


@ACCEPTS
def test_clients_beyond_max_connections_wait_until_others_end(serve, client, accept):
    server = serve("app:app", "--max-connections", "4", "--accept", accept)
    holders = [client(server).stream().held() for _ in range(4)]
    waiting = [client(server).send(connection="close") for _ in range(12)]
    assert_not_accepted(server, waiting, 4)
    holders[0].close()  # each of the others ends by itself, and makes room for the next
    assert {one.answered() for one in waiting} == {holders[0].worker}
    server.wait_connections(accepted=16, finished=13, live=3, lost=0)


@ACCEPTS
def test_max_connections_is_never_exceeded_in_a_burst(serve, client, accept):
    server = serve("app:app", "--max-connections", "10", "--accept", accept)
    burst = [client(server).stream() for _ in range(30)]
    server.wait_connections(live=10, accepted=10)
    assert_not_accepted(server, [], 10)
    for one in burst[:20]:  # the kernel hands them out in the order in which they came
        one.held().close()
    served = [one.held() for one in burst[20:]]
    assert len({one.worker for one in served}) == 2
    server.wait_connections(accepted=30, live=10, finished=20, lost=0)


@ACCEPTS
def test_while_no_worker_moves_clients_wait_in_the_backlog(serve, client, tools, accept):
    server = serve("app:app", "--accept", accept)
    assert server.get()[0] == 200
    server.wait_connections(accepted=1, finished=1)
    with contextlib.ExitStack() as held:
        for pid in server.workers():
            held.enter_context(tools.stopped(pid))
        server.wait_status(lambda status: all(each["lag_ms"] > STUCK_MS for each in status["workers"]))
        waiting = [client(server).send(connection="close") for _ in range(50)]
        assert_not_accepted(server, waiting, 1)
    assert all(one.answered() for one in waiting)
    server.wait_connections(accepted=51, finished=51, live=0, lost=0)


@ACCEPTS
def test_a_burst_on_workers_that_stop_in_its_midst_is_served_when_they_move_again(serve, client, tools, accept):
    server = serve("app:app", "--accept", accept)
    with contextlib.ExitStack() as held:
        for pid in server.workers():
            held.enter_context(tools.stopped(pid))
        # Some are in the channels, as far as credit goes; the rest is in the backlog.
        waiting = [client(server).send(connection="close") for _ in range(400)]
        server.wait_status(lambda status: all(each["lag_ms"] > STUCK_MS for each in status["workers"]))
        assert server.status()["connections"]["accepted"] < 400
    # Who moves first may have it all: what the other has not read by then is taken back from it.
    workers = set(server.workers())
    assert {one.answered() for one in waiting} <= workers
    server.wait_connections(accepted=400, finished=400, live=0, lost=0)
    for pid in workers:  # and both are in use again
        tools.wait_until(lambda pid=pid: server.get() == (200, str(pid)), f"{pid} answers: ", server.log)


def test_scaling_makes_no_room_beyond_max_connections(serve, client):
    server = serve("app:app", "--max-connections", "4")
    holders = [client(server).stream().held() for _ in range(4)]
    waiting = client(server).send()
    server.cli("scale", "3")
    assert_not_accepted(server, [waiting], 4)
    holders[0].close()
    assert waiting.answered() not in {one.worker for one in holders}
