"""``kill -9`` of a worker: what each of its connections comes to, and what log and status say of it."""

import re
import socket

import pytest


@pytest.fixture
def held(client):
    """``held(server, count)``: so many idle keep-alive connections, each answered once; by worker."""

    def held(server, count=8):
        by_worker = {}
        for index in range(count):
            one = client(server)
            by_worker.setdefault(one.ask(token=f"first-{index}").told()["pid"], []).append(one)
        return by_worker

    return held


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_idle_connections_go_on_with_another_worker_and_the_clients_see_nothing(kept, held, loop):
    server = kept("--loop", loop)
    clients = held(server)
    killed, other = clients
    server.kill_worker(killed)
    for one in clients[killed] + clients[other]:
        told = one.ask(token="second").told()
        assert (told["attempt"], told["pid"] != killed) == (0, True)
    assert f"worker {killed} ended (killed by SIGKILL); another is started; 4 moved" in server.log()
    server.wait_connections(accepted=8, live=8, lost=0, moved=4, replayed=0, answered_502=0, cut=0)
    for one in clients[killed] + clients[other]:
        one.close()
    server.wait_connections(accepted=8, live=0, finished=8, lost=0)


def test_idle_connections_of_the_only_worker_wait_for_its_successor(kept, held):
    server = kept("--workers", "1")
    ((killed, clients),) = held(server).items()
    server.kill_worker(killed)
    pids = {one.ask().told()["pid"] for one in clients}
    assert pids == set(server.workers())
    assert killed not in pids
    server.wait_connections(accepted=8, live=8, lost=0, moved=8)


def test_a_connection_outlives_one_worker_after_the_other(kept, client):
    server = kept("--workers", "1")
    one = client(server)
    seen = []
    for _ in range(4):
        seen.append(one.ask().told()["pid"])
        server.kill_worker(seen[-1])
    assert len(set(seen)) == 4
    assert one.ask().told()["pid"] not in seen
    server.wait_connections(accepted=1, live=1, moved=4, lost=0)


def test_a_connection_on_which_nothing_was_ever_asked_goes_on(kept, client):
    server = kept("--workers", "1")
    one = client(server)
    server.wait_connections(accepted=1, live=1, handed=1)
    (killed,) = server.workers()
    server.kill_worker(killed)
    assert one.ask().told()["pid"] != killed
    server.wait_connections(accepted=1, live=1, lost=0, rehanded=1)


def test_a_get_is_repeated_once_and_the_application_can_see_that(kept, client):
    server = kept()
    one = client(server).ask("/wait", "t")
    killed = server.wait_executed("t")
    server.kill_worker(killed)
    told = one.told()
    assert (told["token"], told["attempt"], told["pid"] != killed) == ("t", 1, True)
    assert [attempt for _, attempt, _ in server.executed()] == [0, 1]
    assert "replayed: its worker died before it answered the request" in server.log()
    assert "another is started; 1 replayed" in server.log()
    assert one.ask().told()["attempt"] == 0  # the next request is a first one again
    server.wait_connections(accepted=1, live=1, lost=0, moved=0, replayed=1, answered_502=0, cut=0)


def test_a_post_that_the_application_has_begun_gets_a_502_with_the_reason(kept, client):
    server = kept()
    one = client(server).ask("/wait", "t", "POST", b"data")
    server.kill_worker(server.wait_executed("t"))
    assert one.refused() == "The process that worked on this request ended.\n"
    assert [what[:2] for what in server.executed()] == [("t", 0)]
    assert "answered 502: its worker died before it answered the request, which must not be" in server.log()
    server.wait_connections(accepted=1, live=0, finished=0, lost=1, replayed=0, answered_502=1, cut=0)


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
def test_a_502_is_in_both_logs_with_the_request(kept, client, tmp_path, method):
    """A GET is answered with it only when it has been repeated: its line does not say that it must not be."""
    server = kept("--access-log", str(tmp_path / "access"))
    one = client(server).ask("/always", "t", method, b"data" if method == "POST" else None)
    for attempt in range(1 if method == "POST" else 2):
        killed = server.wait_executed("t", attempt)
        server.kill_worker(killed)
    out = one.sock.recv(1000)
    assert out.startswith(b"HTTP/1.1 502 ")
    assert out.endswith(b"ended.\n") == (method != "HEAD")
    reason = "which must not be repeated" if method == "POST" else "which had been repeated already"
    port = one.sock.getsockname()[1]
    said = f"answered 502: its worker died before it answered the request, {reason}: {method} /always"
    assert f"{said}, client 127.0.0.1:{port}" in server.wait_log(said)
    (line,) = (tmp_path / "access").read_text().splitlines()
    assert re.fullmatch(rf'127.0.0.1 - - \[.*\] "{method} /always\?token=t HTTP/1.1" 502 47 pid={killed}', line)


def test_a_response_under_way_is_cut_by_a_reset(kept, client):
    server = kept()
    one = client(server).ask("/stream", "t")
    killed = server.wait_executed("t")
    assert one.sock.recv(100_000).startswith(b"HTTP/1.1 200 OK")
    server.kill_worker(killed)
    assert one.cut()[1]
    assert "cut: its worker died in the middle of a response" in server.log()
    server.wait_connections(accepted=1, live=0, lost=1, replayed=0, answered_502=0, cut=1)


def test_a_response_that_the_client_has_only_begun_to_take_is_cut_although_the_application_has_ended_it(
    kept, client
):
    server = kept()
    one = client(server).ask("/huge", "t")
    assert one.sock.recv(1000).startswith(b"HTTP/1.1 200 OK")
    server.kill_worker(server.wait_executed("t"))
    data, reset = one.cut()
    assert reset
    assert len(data) < 16_000_000
    server.wait_connections(accepted=1, live=0, lost=1, moved=0, cut=1)


def test_a_response_that_the_kernel_has_whole_arrives_and_its_connection_goes_on(kept, client):
    server = kept()
    one = client(server).ask("/large", "token-")
    killed = server.wait_executed("token-")
    assert one.sock.recv(1, socket.MSG_PEEK)
    server.kill_worker(killed)
    assert one.answer() == (200, ("token-" * 200_000)[:200_000])
    assert one.ask().told()["pid"] != killed
    server.wait_connections(accepted=1, live=1, lost=0, moved=1, cut=0)


def test_half_a_request_is_continued_by_another_worker_even_after_two_deaths(kept, client, tools):
    server = kept("--workers", "1")
    data = tools.request("/", "t", "POST", b"x" * 5000)
    one = client(server)
    for part in (data[:20], data[20:40]):
        one.sock.sendall(part)
        server.wait_read(one)
        server.kill_worker(server.workers()[0])
        server.wait_status(lambda status: server.workers())
    one.sock.sendall(data[40:])
    told = one.told()
    assert (told["method"], told["length"], told["same"], told["attempt"]) == ("POST", 5000, True, 2)
    assert [what[:2] for what in server.executed()] == [("t", 2)]
    server.wait_connections(accepted=1, live=1, lost=0, replayed=2, answered_502=0)


def test_a_post_whose_body_has_not_come_whole_gets_a_502_once_the_application_was_called(kept, client, tools):
    server = kept()
    data = tools.request("/body", "t", "POST", b"x" * 5000)
    one = client(server)
    one.sock.sendall(data[:-1])
    server.kill_worker(server.wait_executed("t"))
    assert one.refused()
    assert len(server.executed()) == 1
    server.wait_connections(accepted=1, live=0, lost=1, replayed=0, answered_502=1)


def test_a_request_that_kills_its_worker_twice_gets_a_502(kept, client):
    server = kept()
    one = client(server).ask("/always", "t")
    for attempt in (0, 1):
        server.kill_worker(server.wait_executed("t", attempt))
    assert one.refused()
    assert [attempt for _, attempt, _ in server.executed()] == [0, 1]
    server.wait_connections(accepted=1, live=0, lost=1, replayed=1, answered_502=1)
