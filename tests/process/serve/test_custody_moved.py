"""Reload, recycling, retiring, scaling, SIGTERM to a worker: connections move to others, and none is closed."""

import os
import signal
import threading

import pytest


class RepeatingClient(threading.Thread):
    """Sends one request after the other over one connection until it is told to stop."""

    def __init__(self, one):
        super().__init__(daemon=True)
        self.one = one
        self.pids = []
        self.error = None
        self.over = threading.Event()

    def run(self):
        try:
            while not self.over.is_set():
                self.pids.append(self.one.ask(token="asked").told()["pid"])
        except Exception as error:
            self.error = error

    def end(self):
        """Stop; returns the workers that have answered."""
        self.over.set()
        self.join()
        assert self.error is None, self.error
        return self.pids


@pytest.fixture
def repeating(client):
    """``repeating(server)``: a client that sends requests all the time, over one connection."""
    made = []

    def begin(server):
        made.append(RepeatingClient(client(server)))
        made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        one.over.set()
        one.join()


def end_first(server):
    os.kill(server.workers()[0], signal.SIGTERM)


WAYS = {
    "reload": lambda server: server.cli("reload"),
    "retire": lambda server: server.cli("workers", "retire", str(server.workers()[0])),
    "scale": lambda server: server.cli("scale", "1"),
    "SIGTERM": end_first,
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("way", WAYS)
def test_a_worker_that_retires_closes_no_connection(kept, client, repeating, way, loop):
    server = kept("--loop", loop)
    idle = [client(server) for _ in range(6)]
    for one in idle:
        one.ask().told()
    busy = [repeating(server) for _ in range(4)]
    WAYS[way](server)
    server.wait_log("has retired", {"reload": 2}.get(way, 1))
    answers = {one.ask().told()["pid"] for one in idle}
    assert all(one.end() for one in busy)
    assert answers <= set(server.workers())
    status = server.wait_connections(accepted=10, live=10, lost=0, finished=0, replayed=0, answered_502=0, cut=0)
    assert status["connections"]["moved"] >= (6 if way == "reload" else 3)


def test_workers_that_have_handled_enough_are_replaced_under_one_connection(kept, repeating, tools):
    server = kept("--workers", "2", "--max-requests", "20")
    one = repeating(server)
    tools.wait_until(lambda: len(set(one.pids)) >= 3 or one.error, "three workers have answered: ", server.log)
    assert len(set(one.end())) >= 3
    server.wait_connections(accepted=1, live=1, lost=0, finished=0)


def test_a_busy_connection_moves_when_its_response_is_complete(kept, client):
    server = kept("--workers", "1")
    (old,) = server.workers()
    one = client(server).ask("/gate", "t")
    assert server.wait_executed("t") == old
    server.cli("reload")
    (new,) = server.workers()
    assert server.workers("retiring") == [old]
    server.wait_connections(live=1, moved=0)
    (server.folder / "t.open").touch()
    assert one.told()["pid"] == old
    assert one.ask().told()["pid"] == new
    server.wait_log(f"worker {old} has retired")
    server.wait_connections(accepted=1, live=1, lost=0, moved=1)


def test_half_a_request_stays_with_its_worker_until_it_is_answered_and_moves_then(kept, client, tools):
    server = kept("--workers", "1")
    (old,) = server.workers()
    one = client(server)
    data = tools.request(token="t")
    one.sock.sendall(data[:10])
    server.wait_connections(live=1)
    server.wait_read(one)
    server.cli("reload")
    one.sock.sendall(data[10:])
    assert one.told()["pid"] == old
    assert [one.ask().told()["pid"]] == server.workers()
    server.wait_connections(accepted=1, live=1, lost=0, moved=1)


@pytest.mark.parametrize("kind", ["stream", "upgrade"])
def test_streams_and_websockets_stay_with_the_old_worker_until_they_end(kept, client, kind):
    server = kept("--workers", "1")
    one = getattr(client(server), kind)().held()
    idle = client(server)
    idle.ask().told()
    server.cli("reload")
    (new,) = server.workers()
    assert server.workers("retiring") == [one.worker]
    assert idle.ask().told()["pid"] == new
    if kind == "upgrade":
        one.say("still here")
        assert one.hear() == "still here"
    one.close()
    server.wait_log(f"worker {one.worker} has retired")
    server.wait_connections(accepted=2, live=1, finished=1, lost=0, moved=1)


def test_streams_and_websockets_are_ended_after_the_graceful_timeout(kept, client):
    server = kept("--workers", "1", "--graceful-timeout", "0.3")
    stream, websocket = client(server).stream().held(), client(server).upgrade().held()
    idle = client(server)
    idle.ask().told()
    server.cli("reload")
    assert websocket.hear() == 1012  # service restart (RFC 6455, and the registry of close codes)
    stream.ended()
    server.wait_log(f"worker {stream.worker} has retired")
    assert [idle.ask().told()["pid"]] == server.workers()
    server.wait_status(lambda status: status["connections"]["live"] <= 2)


def test_an_early_answered_request_whose_body_is_still_to_come_is_never_handed_on(kept, client, tools):
    """The rest of its body would be taken for a request by the next worker."""
    server = kept("--workers", "1")
    inner = tools.request("/", "smuggled", "POST", b"")
    one = client(server)
    one.sock.sendall(tools.request("/unread", "t", "POST", inner)[: -len(inner)])
    assert one.told(413)["token"] == "t"
    server.cli("reload")
    one.sock.sendall(inner)
    told = one.ask(token="next").told()
    assert (told["token"], told["pid"] in server.workers()) == ("next", True)
    assert [token for token, *_ in server.executed()] == ["t", "next"]
    server.wait_connections(accepted=1, live=1, lost=0)


def test_a_stop_answers_what_is_in_progress_and_closes_what_is_idle(kept, client):
    server = kept("--workers", "2")
    idle, busy = client(server), client(server)
    idle.ask().told()
    busy.ask("/gate", "t")
    server.wait_executed("t")
    server.kill(signal.SIGTERM)
    assert idle.ended()
    (server.folder / "t.open").touch()
    assert busy.told()["token"] == "t"
    assert busy.ended()
    assert server.wait_end() == 0
