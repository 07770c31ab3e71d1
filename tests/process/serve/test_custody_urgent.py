"""Urgent bytes (MSG_OOB), which the kernel counts as received: they give nobody what another client has sent."""

import contextlib
import os
import signal
import socket

import pytest

SECRET = "the-victims-token"


def end_of(one):
    """All that the client still gets, whether the connection is closed or reset."""
    with contextlib.suppress(OSError):
        one.sock.shutdown(socket.SHUT_WR)
    return one.cut()[0]


@pytest.fixture
def killed_at_urgent(tools):
    """``killed_at_urgent(server, pid, one, first)``: the worker has read the first bytes, and dies at urgent ones.

    It is stopped meanwhile: what it reads between them it may get as ordinary bytes.
    """

    def act(server, pid, one, first):
        one.sock.sendall(first)
        server.wait_read(one)
        with tools.stopped(pid):
            for _ in range(100):
                one.sock.send(b"!", socket.MSG_OOB)
            os.kill(pid, signal.SIGKILL)
        server.wait_log(f"worker {pid} ended")

    return act


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_victim_has_sent_is_not_repeated_for_an_attacker(kept, client, killed_at_urgent, method):
    server = kept("--workers", "1", "--spare", "1")
    victim, attacker = client(server), client(server)
    pid = victim.ask("/", SECRET, method, b"its data" if method == "POST" else None).told()["pid"]
    killed_at_urgent(server, pid, attacker, method[:1].encode())
    assert SECRET.encode() not in end_of(attacker)
    assert [token for token, *_ in server.executed()] == [SECRET]
    assert victim.ask(token="next").told()["attempt"] == 0


def test_urgent_bytes_of_a_query_are_bytes_of_it(kept, client, killed_at_urgent):
    """They are in line: the request is the one that was sent, for this worker and for the next."""
    server = kept("--workers", "1", "--spare", "1")
    one = client(server)
    pid = one.ask(token="long-" * 40).told()["pid"]
    killed_at_urgent(server, pid, one, b"GET /?token=t")
    one.sock.sendall(b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert one.told()["token"] == "t" + 100 * "!"
    server.wait_connections(replayed=1, lost=0)


def test_a_connection_from_before_the_server_came_gets_a_502(kept, client, killed_at_urgent):
    """It has not the option that puts urgent bytes in line: what the kernel counts is not believed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        early = client(None, address=listener.getsockname())
        number = listener.fileno()
        server = kept("--workers", "1", "--spare", "1", bind=[f"fd://{number}"], pass_fds=[number])
    victim = client(server)
    pid = victim.ask("/", SECRET, "POST", b"its data").told()["pid"]
    killed_at_urgent(server, pid, early, b"P")
    assert end_of(early).startswith(b"HTTP/1.1 502 ")
    assert [token for token, *_ in server.executed()] == [SECRET]
    assert victim.ask(token="next").told()["attempt"] == 0
