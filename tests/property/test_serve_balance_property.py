"""Which worker gets the next connection: what holds after any sequence of events."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdpass.serve.dispatcher.accept.balance import BALANCES, NEVER, Hash, Least

loads_of = st.lists(st.integers(0, 5) | st.just(NEVER), max_size=9)
clients = st.none() | st.text(max_size=3) | st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))


@pytest.mark.parametrize("balance", BALANCES.values(), ids=BALANCES)
@given(calls=st.lists(st.tuples(loads_of, clients), max_size=12), data=st.data())
def test_only_who_can_take_one_is_chosen_and_somebody_if_anybody_can(balance, calls, data):
    """Whatever was chosen before, and however the places have changed meanwhile."""
    chooser = balance()
    for loads, client in calls:
        requests = [data.draw(st.integers(-2, 9)) for _ in loads]
        place = chooser.choose(loads, requests, client)
        if all(load == NEVER for load in loads):
            assert place == -1
        else:
            assert loads[place] != NEVER


@given(
    events=st.lists(st.sampled_from(["join", "leave", "end"]) | st.just("arrive"), max_size=60),
    arrivals=st.integers(0, 60),
    data=st.data(),
)
def test_least_comes_to_a_difference_of_one_at_most(events, arrivals, data):
    """After joins, leaves and ends, arrivals alone even out: no place that is above the least one gets any, so
    the difference shrinks until it is 1, and stays."""
    balance, loads = Least(), [0, 0]
    for event in events:
        here = [place for place, load in enumerate(loads) if load != NEVER]
        if event == "join":
            loads.append(0)
        elif event == "leave" and here:
            loads[data.draw(st.sampled_from(here))] = NEVER
        elif event == "end" and (busy := [place for place in here if loads[place]]):
            loads[data.draw(st.sampled_from(busy))] -= 1
        elif event == "arrive" and here:
            loads[balance.choose(loads, [data.draw(st.integers(0, 3)) for _ in loads], None)] += 1
    if all(load == NEVER for load in loads):
        return
    missing = sum(max(load for load in loads if load != NEVER) - load for load in loads if load != NEVER)
    for _ in range(missing + arrivals):
        loads[balance.choose(loads, [data.draw(st.integers(0, 3)) for _ in loads], None)] += 1
    there = [load for load in loads if load != NEVER]
    assert max(there) - min(there) <= 1


@given(workers=st.integers(1, 40), arrivals=st.integers(0, 300))
def test_least_given_only_arrivals_differs_by_one_at_each_moment(workers, arrivals):
    balance, loads = Least(), [0] * workers
    for _ in range(arrivals):
        loads[balance.choose(loads, [0] * workers, None)] += 1
        assert max(loads) - min(loads) <= 1


HOSTS = [f"10.{n >> 8}.{n & 255}.9" for n in range(2000)]


def placed(balance, loads):
    return [balance.choose(loads, [0] * len(loads), (host, 1)) for host in HOSTS]


@given(places=st.integers(2, 12), data=st.data())
@settings(max_examples=20, deadline=None)
def test_hash_moves_no_client_but_those_of_a_place_that_cannot(places, data):
    """One that goes (`NEVER`) and comes back: everybody else stays, and they return."""
    balance = Hash()
    gone = data.draw(st.integers(0, places - 1))
    before = placed(balance, [0] * places)
    without = placed(balance, [NEVER if place == gone else 0 for place in range(places)])
    assert all(now == was for was, now in zip(before, without, strict=True) if was != gone)
    assert placed(balance, [0] * places) == before


@given(places=st.integers(2, 16))
@settings(max_examples=15, deadline=None)
def test_hash_moves_clients_only_to_a_place_that_is_new(places):
    before, after = placed(Hash(), [0] * places), placed(Hash(), [0] * (places + 1))
    moved = [now for was, now in zip(before, after, strict=True) if was != now]
    assert set(moved) <= {places}
    assert len(moved) <= 2 * len(HOSTS) / (places + 1)


@pytest.mark.parametrize(("places", "least", "most"), [(2, 0.97, 1.03), (8, 0.95, 1.05), (32, 0.9, 1.1)])
def test_hash_gives_each_place_an_even_share(places, least, most):
    hosts = [f"10.{n // 12500}.{n // 250 % 50}.{n % 250 + 1}" for n in range(50_000)]
    balance, loads = Hash(), [0] * places
    shares = Counter(balance.choose(loads, loads, (host, 1)) for host in hosts)
    assert len(shares) == places
    assert all(least <= share * places / len(hosts) <= most for share in shares.values())
