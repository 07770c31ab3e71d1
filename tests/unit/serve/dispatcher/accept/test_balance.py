"""Which worker gets the next connection: examples of each balance."""

import pytest

from fdpass.serve.dispatcher.accept.balance import BALANCES, NEVER, Hash, Least, RoundRobin

CLIENT = ("192.0.2.1", 1)


def given(balance, loads, arrivals, requests=None):
    """The rows that get so many arrivals, each of which is added to the loads."""
    loads, found = list(loads), []
    for _ in range(arrivals):
        place = balance.choose(loads, requests or [0] * len(loads), CLIENT)
        loads[place] += 1
        found.append(place)
    return found


@pytest.mark.parametrize("balance", BALANCES.values(), ids=BALANCES)
@pytest.mark.parametrize("loads", [[], [NEVER], [NEVER] * 5])
@pytest.mark.parametrize("client", [CLIENT, "", "/a/path", None])
def test_no_worker_is_chosen_if_none_can_take_a_connection(balance, loads, client):
    assert balance().choose(loads, [0] * len(loads), client) == -1


@pytest.mark.parametrize("balance", BALANCES.values(), ids=BALANCES)
@pytest.mark.parametrize("client", [CLIENT, None])
def test_the_only_worker_that_can_take_a_connection_is_always_chosen(balance, client):
    chooser = balance()
    assert [chooser.choose([NEVER, NEVER, 7, NEVER], [0] * 4, client) for _ in range(5)] == [2] * 5


@pytest.mark.parametrize(
    ("loads", "requests", "expected"),
    [
        ([3, 1, 2], [0, 9, 0], 1),
        ([2, 2, 2], [5, 1, 3], 1),
        ([2, 2, 3], [5, 5, 0], 0),
        ([NEVER, 4, 5], [0, 9, 0], 1),
        ([0, NEVER, 0], [1, 0, 0], 2),
        ([1, 1], [-1, 0], 0),
        ([0], [NEVER - 1], 0),
    ],
)
def test_least_takes_fewest_connections_then_fewest_requests(loads, requests, expected):
    """The numbers of requests may be impossible: workers store them."""
    assert Least().choose(loads, requests, CLIENT) == expected


def test_least_takes_turns_among_equals():
    assert given(Least(), [0] * 4, 8) == [0, 1, 2, 3, 0, 1, 2, 3]


def test_least_spreads_connections_that_end_at_once():
    """Connections so short that the loads are always equal must not all go to the first."""
    balance = Least()
    assert [balance.choose([0] * 3, [0] * 3, CLIENT) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_least_begins_again_when_the_next_row_is_gone():
    balance = Least()
    given(balance, [0] * 8, 7)
    assert balance.choose([0, 0], [0, 0], CLIENT) == 0


def test_round_robin_ignores_the_load():
    assert given(RoundRobin(), [9, 0, 4], 6) == [0, 1, 2, 0, 1, 2]


def test_round_robin_skips_rows_that_cannot_take_a_connection():
    assert given(RoundRobin(), [0, NEVER, 0], 4) == [0, 2, 0, 2]


def test_round_robin_goes_on_with_fewer_rows():
    balance = RoundRobin()
    given(balance, [0] * 5, 4)
    assert given(balance, [0] * 2, 3) == [0, 1, 0]


def test_hash_looks_at_the_host_and_not_at_the_port():
    balance = Hash()
    assert len({balance.choose([0] * 8, [0] * 8, ("192.0.2.7", port)) for port in range(100)}) == 1


def test_hash_is_the_same_in_every_process():
    """A restarted dispatcher chooses the same row for each client."""
    hosts = ["127.0.0.1", "192.0.2.1", "2001:db8::1", "198.51.100.77"]
    first = [Hash().choose([0] * 4, [0] * 4, (host, 1)) for host in hosts]
    assert first == [Hash().choose([5] * 4, [9] * 4, (host, 2)) for host in hosts]


def test_hash_spreads_clients_without_an_address_in_turn():
    balance = Hash()
    assert [balance.choose([0] * 3, [0] * 3, "") for _ in range(4)] == [0, 1, 2, 0]
