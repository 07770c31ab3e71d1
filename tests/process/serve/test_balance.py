"""Which worker gets a connection: held ones are spread evenly, and one client comes back to one worker."""

import os
import signal
from collections import Counter

import pytest

HELD = 120


def spread(server):
    """The connections of each ready worker, as the server counts them."""
    return [worker["connections"] for worker in server.status()["workers"] if worker["state"] == "ready"]


def uneven(counts):
    return max(counts) - min(counts)


@pytest.fixture
def four(serve):
    """A server with four workers, and these flags."""
    return lambda *flags, **options: serve("app:app", "--workers", "4", *flags, **options)


@pytest.fixture
def hold(client):
    """Hold so many connections, half of them WebSockets and half of them streams of events: the clients."""

    def ask(server, number):
        one = client(server)
        return one.upgrade() if number % 2 else one.stream()

    def hold(server, count, *, burst):
        if burst:  # all of them ask before the first is answered
            return [one.held() for one in [ask(server, number) for number in range(count)]]
        return [ask(server, number).held() for number in range(count)]

    return hold


@pytest.mark.parametrize("accept", ["dispatcher", "worker"])
def test_held_connections_are_spread_evenly_in_a_burst_and_one_by_one(four, hold, accept):
    server = four("--accept", accept)
    for burst, before in ((True, 0), (False, HELD)):
        clients = hold(server, HELD, burst=burst)
        told = Counter(one.worker for one in clients)
        assert len(told) == 4
        assert uneven(told.values()) <= 1, told
        assert uneven(spread(server)) <= 1
        server.wait_connections(accepted=before + HELD, live=HELD, handed=before + HELD, lost=0)
        for one in clients:
            one.close()
        server.wait_connections(live=0)


@pytest.mark.parametrize("accept", ["dispatcher", "worker"])
def test_a_replaced_worker_gets_the_new_connections_until_all_have_as_many(four, hold, accept):
    server = four("--accept", accept)
    clients = hold(server, HELD, burst=True)
    killed = clients[0].worker
    os.kill(killed, signal.SIGKILL)
    lost = [one for one in clients if one.worker == killed]
    assert all(one.ended() for one in lost)
    server.wait_connections(accepted=HELD, live=HELD - len(lost))
    server.wait_status(lambda status: [each["state"] for each in status["workers"]] == ["ready"] * 4)
    fresh = hold(server, len(lost), burst=False)
    assert {one.worker for one in fresh}.isdisjoint(one.worker for one in clients)
    assert uneven(spread(server)) <= 1
    hold(server, 100, burst=True)
    assert uneven(spread(server)) <= 1
    assert sum(spread(server)) == HELD + 100


def test_a_worker_with_fewer_connections_gets_the_next(four, hold):
    server = four()
    clients = hold(server, 40, burst=True)
    freed = clients[0].worker
    for one in clients:
        if one.worker == freed:
            one.close()
    server.wait_connections(live=30, finished=10)
    assert {one.worker for one in hold(server, 10, burst=False)} == {freed}


def test_round_robin_takes_turns_whatever_a_worker_has(four, client):
    server = four("--balance", "round-robin")
    first = [client(server).stream().held() for _ in range(8)]
    turns = [one.worker for one in first]
    assert turns[:4] == turns[4:]
    assert len(set(turns)) == 4
    for one in first:  # one worker has nothing now, and still takes no more than its turn
        if one.worker == turns[0]:
            one.close()
    server.wait_connections(live=6, finished=2)
    assert [client(server).stream().held().worker for _ in range(8)] == turns


def addresses(count):
    return [f"127.0.{number // 200 + 1}.{number % 200 + 1}" for number in range(count)]


def by_address(client, server, sources):
    """For each client address the worker that it comes to."""
    asked = [(source, client(server, source).send(connection="close")) for source in sources]
    return {source: one.answered() for source, one in asked}


def test_hash_moves_only_the_clients_of_a_worker_that_comes_or_goes(four, client):
    server = four("--balance", "hash")
    sources = addresses(100)
    before = by_address(client, server, sources)
    server.cli("scale", "5")
    with_one_more = by_address(client, server, sources)
    (fresh,) = set(server.workers()) - set(before.values())
    moved = [source for source in sources if with_one_more[source] != before[source]]
    assert {with_one_more[source] for source in moved} == {fresh}
    assert 5 <= len(moved) <= 40  # a fifth of them, as chance has it
    server.cli("scale", "4")
    left = set(server.workers())
    with_one_less = by_address(client, server, sources)
    moved = [source for source in sources if with_one_less[source] != with_one_more[source]]
    assert {with_one_more[source] for source in moved}.isdisjoint(left)
    assert len(moved) <= 40


def test_hash_brings_a_client_address_to_one_worker_and_to_its_successor_if_it_dies(four, client):
    server = four("--balance", "hash")
    sources = addresses(80)
    before = by_address(client, server, sources)
    assert by_address(client, server, reversed(sources)) == before
    assert len(set(before.values())) == 4
    killed = before[sources[0]]
    assert {client(server, sources[0]).stream().held().worker for _ in range(20)} == {killed}
    os.kill(killed, signal.SIGKILL)
    server.wait_log("killed by SIGKILL")
    server.wait_status(lambda status: [each["state"] for each in status["workers"]] == ["ready"] * 4)
    (successor,) = set(server.workers()) - set(before.values())
    after = by_address(client, server, sources)
    assert after == {source: successor if pid == killed else pid for source, pid in before.items()}
