"""Requests of each kind, and their workers killed: served as ever, never wrongly. With both loops."""

import json
import socket
from functools import partial

import pytest


@pytest.fixture(params=["asyncio", "uvloop"])
def engine(request, kept):
    """``engine(*flags)``: a server on this loop, with a spare worker."""
    return partial(kept, "--workers", "1", "--spare", "1", "--loop", request.param)


@pytest.fixture
def ask(tools):
    return tools.request


@pytest.mark.parametrize("length", [61_440, 3_000_000])
def test_a_body_larger_than_the_buffer_is_served_and_its_connection_goes_on(engine, client, length):
    server = engine()
    one = client(server)
    told = one.ask("/", "t", "POST", b"x" * length).told()
    assert (told["length"], told["same"]) == (length, True)
    server.kill_worker(told["pid"])
    after = one.ask("/", "t", "POST", b"y" * 100).told()
    assert (after["length"], after["attempt"], after["pid"] != told["pid"]) == (100, 0, True)
    server.wait_connections(live=1, lost=0, moved=1)


def test_a_request_within_the_buffer_is_repeated_whole_and_a_larger_one_gets_a_502(engine, client):
    server = engine("--replay", "idempotent")
    for length, fits in ((50_000, True), (100_000, False)):
        one = client(server).ask("/wait", f"t{length}", "PUT", b"x" * length)
        server.kill_worker(server.wait_executed(f"t{length}"))
        if fits:
            told = one.told()
            assert (told["length"], told["same"], told["attempt"]) == (length, True, 1)
        else:
            assert one.refused()
    server.wait_connections(replayed=1, answered_502=1, cut=0)


@pytest.mark.parametrize("count", [2, 10])
def test_of_pipelined_requests_each_is_answered_once_and_in_order_whichever_is_killed(engine, client, ask, count):
    server = engine()
    for killed in (0, count - 1):
        tokens = [f"{killed}-{index}" for index in range(count)]
        one = client(server)
        paths = ["/wait" if index == killed else "/" for index in range(count)]
        one.sock.sendall(b"".join(map(ask, paths, tokens)))
        server.kill_worker(server.wait_executed(tokens[killed]))
        for index, token in enumerate(tokens):
            told = one.told()
            assert (told["token"], told["attempt"]) == (token, int(index == killed))
        assert one.ask(token="after").told()["attempt"] == 0
        executed = [token for token, *_ in server.executed() if token in tokens]
        assert sorted(executed) == sorted([*tokens, tokens[killed]])
    server.wait_connections(lost=0, replayed=2, answered_502=0, cut=0)


def test_a_pipelined_post_that_dies_gets_a_502_and_what_stood_behind_it_is_not_executed(engine, client, ask):
    server = engine()
    one = client(server)
    one.sock.sendall(ask("/", "first") + ask("/wait", "post", "POST", b"data") + ask("/", "behind"))
    assert one.told()["token"] == "first"
    server.kill_worker(server.wait_executed("post"))
    assert one.refused()
    assert [token for token, *_ in server.executed()] == ["first", "post"]
    server.wait_connections(live=0, lost=1, answered_502=1)


def test_expect_100_continue_is_served_goes_on_and_is_never_executed_twice(engine, client, ask):
    server = engine()
    for path in ("/", "/wait"):
        one = client(server)
        data = ask(path, path[1:] or "-", "POST", b"data", expect="100-continue")
        one.sock.sendall(data[:-4])
        assert one.head()[0] == 100
        one.sock.sendall(data[-4:])
        if path == "/":
            killed = one.told()["pid"]
            server.kill_worker(killed)
            assert one.ask().told()["attempt"] == 0
    server.kill_worker(server.wait_executed("wait"))
    assert one.refused()  # the 100 is no part of a response
    assert [token for token, *_ in server.executed()].count("wait") == 1
    server.wait_connections(answered_502=1, cut=0)


def test_after_100_continue_a_request_that_may_be_repeated_is(engine, client, ask):
    """The next worker may say 100 once more (RFC 9110, 15.2)."""
    server = engine("--replay", "idempotent")
    one = client(server)
    data = ask("/wait", "t", "PUT", b"data", expect="100-continue")
    one.sock.sendall(data[:-4])
    assert one.head()[0] == 100
    one.sock.sendall(data[-4:])
    server.kill_worker(server.wait_executed("t"))
    status, headers = one.head()
    if status == 100:
        status, headers = one.head()
    assert (status, json.loads(one.body(headers))["attempt"]) == (200, 1)
    server.wait_connections(live=1, replayed=1, cut=0)


@pytest.mark.parametrize("custody", ["on", "off"])
def test_the_preface_of_http_2_is_refused_and_holds_nothing_up(engine, client, custody):
    server = engine("--custody", custody)
    one = client(server)
    one.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert one.rest().startswith(b"HTTP/1.1 400 Bad Request")
    server.wait_log(" gets a 400: ")
    server.cli("reload")
    server.wait_log("has retired")


def test_a_chunked_upload_is_served_and_repeated_with_its_second_half_still_to_come(engine, client, ask):
    server = engine("--replay", "idempotent")
    chunk = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    one = client(server)
    one.sock.sendall(ask("/", "t", "POST", 3 * chunk + b"0\r\n\r\n", transfer_encoding="chunked"))
    assert (one.told()["length"]) == 3000
    one.sock.sendall(ask("/body", "put", "PUT", 3 * chunk + chunk[:500], transfer_encoding="chunked"))
    killed = server.wait_executed("put")
    server.wait_read(one)
    server.kill_worker(killed)
    server.wait_executed("put", 1)
    one.sock.sendall(chunk[500:] + b"0\r\n\r\n")
    told = one.told()
    assert (told["length"], told["same"], told["attempt"]) == (4000, True, 1)
    server.kill_worker(told["pid"])
    assert one.ask().told()["attempt"] == 0
    server.wait_connections(live=1, lost=0, replayed=1, moved=1)


def test_a_half_closed_client_gets_its_answer_from_the_next_worker(engine, client, tools):
    server = engine()
    one = client(server)
    killed = one.ask().told()["pid"]
    with tools.stopped(killed):
        one.ask(token="last").sock.shutdown(socket.SHUT_WR)
        server.kill_worker(killed)
    told = one.told()
    assert (told["token"], told["pid"] != killed) == ("last", True)
    assert one.ended()
    server.wait_connections(live=0, lost=0, moved=1)


@pytest.mark.parametrize(
    "headers", [{"version": "1.0"}, {"version": "1.0", "connection": "keep-alive"}, {"connection": "close"}]
)
def test_a_request_that_ends_its_connection_is_repeated_and_then_ends_it(engine, client, ask, headers):
    server = engine()
    one = client(server)
    one.sock.sendall(ask("/wait", "t", **headers))
    server.kill_worker(server.wait_executed("t"))
    _, answered = one.head()
    told = json.loads(one.body(answered))
    assert (told["token"], told["attempt"]) == ("t", 1)
    assert answered["connection"] == "close"
    assert one.ended()
    server.wait_connections(live=0, lost=0, replayed=1, answered_502=0, cut=0)


def test_an_early_answer_lets_the_body_come_and_its_connection_is_used_on(engine, client, ask):
    server = engine()
    one = client(server)
    data = ask("/unread", "t", "POST", b"x" * 1000)
    one.sock.sendall(data[:-500])
    pid = one.told(413)["pid"]
    one.sock.sendall(data[-500:])
    assert one.ask().told()["pid"] == pid
    server.kill_worker(pid)
    assert one.ask().told()["pid"] != pid
    server.wait_connections(live=1, lost=0, moved=1)


def test_an_early_answered_request_whose_worker_dies_before_its_body_came_is_not_taken_for_another(
    engine, client, ask
):
    server = engine()
    one = client(server)
    inner = ask("/", "smuggled", "POST", b"")
    one.sock.sendall(ask("/unread", "t", "POST", inner)[: -len(inner)])
    server.kill_worker(one.told(413)["pid"])
    try:
        one.sock.sendall(inner)
    except ConnectionError:
        pass
    assert one.ended()
    assert [token for token, *_ in server.executed()] == ["t"]
    server.wait_connections(live=0)


def test_responses_without_a_body_leave_a_connection_that_goes_on(engine, client):
    server = engine()
    one = client(server)
    assert one.ask("/204", "t", "GET").head()[0] == 204
    assert one.ask("/large", "t", "HEAD").head()[1]["content-length"] == "200000"
    pid = one.ask().told()["pid"]
    server.kill_worker(pid)
    assert one.ask("/204", "t", "DELETE").head()[0] == 204
    assert one.ask("/", "t", "HEAD").head()[0] == 200
    assert one.ask().told()["pid"] != pid
    server.wait_connections(live=1, lost=0, moved=1)


def test_a_worker_that_is_stopped_by_a_signal_and_killed_leaves_what_it_had_not_read(engine, client, ask, tools):
    server = engine()
    one = client(server)
    killed = one.ask().told()["pid"]
    with tools.stopped(killed):
        one.sock.sendall(ask("/", "a", "POST", b"x") + ask("/", "b"))
        server.kill_worker(killed)
    assert [one.told()["token"] for _ in "ab"] == ["a", "b"]
    assert [token for token, *_ in server.executed()][-2:] == ["a", "b"]
