"""Which requests are repeated when their worker is killed: ``--replay``; and ``--custody off``: none."""

import os
import signal

import pytest


@pytest.fixture
def killed(client):
    """``killed(server, method)``: the client, after the worker that works on its request was killed."""

    def killed(server, method):
        body = None if method in {"GET", "HEAD", "OPTIONS", "DELETE"} else b"data"
        one = client(server).ask("/wait", method, method, body)
        server.kill_worker(server.wait_executed(method))
        return one

    return killed


@pytest.mark.parametrize(
    ("replay", "repeated", "refused"),
    [
        ("none", (), ("GET", "PUT", "POST")),
        ("safe", ("GET", "OPTIONS"), ("PUT", "DELETE", "POST", "PATCH")),
        ("idempotent", ("GET", "PUT", "DELETE"), ("POST", "PATCH")),
    ],
)
def test_replay_says_which_methods_are_repeated_and_the_rest_get_a_502(kept, killed, replay, repeated, refused):
    server = kept("--replay", replay, "--spare", "1")
    for method in repeated:
        told = killed(server, method).told()
        assert (told["method"], told["attempt"]) == (method, 1)
    for method in refused:
        assert killed(server, method).refused()
    executed = [(token, attempt) for token, attempt, _ in server.executed()]
    assert sorted(executed) == sorted(
        [(method, 0) for method in repeated + refused] + [(method, 1) for method in repeated]
    )
    server.wait_connections(replayed=len(repeated), answered_502=len(refused), lost=len(refused), cut=0)


def test_a_head_request_is_repeated_and_answered_without_a_body(kept, killed):
    server = kept()
    one = killed(server, "HEAD")
    status, headers = one.head()
    assert (status, int(headers["content-length"]) > 0) == (200, True)
    assert one.ask().told()["attempt"] == 0  # what follows is the next response, and no body
    server.wait_connections(accepted=1, live=1, lost=0, replayed=1)


def test_a_replay_that_its_worker_has_not_read_when_it_dies_too_is_handed_to_a_third(kept, client, tools):
    server = kept("--workers", "2")
    one = client(server).ask("/wait", "t")
    first = server.wait_executed("t")
    (second,) = set(server.workers()) - {first}
    with tools.stopped(second):
        server.kill_worker(first)
        server.wait_connections(replayed=1)
        server.kill_worker(second)
    told = one.told()
    assert (told["attempt"], told["pid"] in {first, second}) == (1, False)
    assert [attempt for _, attempt, _ in server.executed()] == [0, 1]
    server.wait_connections(accepted=1, live=1, lost=0, replayed=1, answered_502=0)


def test_without_custody_connections_end_with_their_worker(kept, client):
    server = kept("--custody", "off", "--workers", "1")
    idle, busy = client(server), client(server)
    killed = idle.ask().told()["pid"]
    busy.ask("/wait", "t")
    assert server.wait_executed("t") == killed
    server.kill_worker(killed)
    assert idle.ended()
    assert busy.ended()
    assert client(server).ask().told()["pid"] != killed
    assert "moved" not in server.status()["connections"]
    server.wait_connections(accepted=3, lost=2)


def test_connections_of_many_clients_that_nobody_has_read_survive_with_those_that_are_idle(kept, client, tools):
    server = kept("--workers", "1")
    (killed,) = server.workers()
    idle = [client(server) for _ in range(8)]
    for one in idle:
        one.ask().told()
    with tools.stopped(killed):
        fresh = [client(server).ask(token="unread") for _ in range(32)]
        for one in idle:
            one.ask("/", "asked")
        server.wait_status(lambda status: status["connections"]["handed"] == 40)
        os.kill(killed, signal.SIGKILL)
    server.wait_log(f"worker {killed} ended")
    assert {one.told()["attempt"] for one in idle + fresh} == {0}
    assert sum(token != "-" for token, _, _ in server.executed()) == 40
    server.wait_connections(accepted=40, live=40, lost=0, replayed=0, answered_502=0, cut=0)
