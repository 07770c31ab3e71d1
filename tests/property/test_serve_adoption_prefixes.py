"""The dispatcher dies at any step of its code: the next one goes on, and no connection is lost or mixed up."""

import pytest

from ._deaths import each_step_is_seen
from ._house import MOST, SAFE, UNSAFE, Conn, House

pytestmark = each_step_is_seen


def client(house):
    if sum(not conn.how for conn in house.conns) < MOST:
        house.conns.append(Conn(len(house.conns)))
        house.kernel.backlog.append(house.conns[-1])


def worker_acts(house):
    worker = house.random.choice(house.workers)
    if not worker.alive:
        return
    worker.run()
    if not worker.mine:
        return
    slot = house.random.choice(sorted(worker.mine))
    act = house.random.choice(["read", "read", "read", "read", "call", "call", "respond", "end", "give_back"])
    if act == "call":
        worker.call(slot, house.random.choice([SAFE, UNSAFE]))
    else:
        getattr(worker, act)(slot)


def worker_dies(house):
    if house.random.random() < 0.25:
        house.random.choice(house.workers).die()


def live(house, moves, deaths=(), within=()):
    """Clients and workers act; after each move the dispatcher does, and dies at these of its steps.

    Returns:
        How many steps there were, those of adoptions included.
    """
    steps, deaths = 0, sorted(deaths)
    for _ in range(moves):
        client(house)
        for _ in range(6):
            worker_acts(house)
        worker_dies(house)
        acts = [house.accept, house.read_reports, house.bury, house.check]
        while acts:
            taken = house.act(acts[0], deaths[0] - steps if deaths else 0, within)
            steps += taken.steps
            if taken.died:
                deaths.pop(0)
                house.take_over()
                acts = [house.adopt, house.read_reports, house.check]
            else:
                del acts[0]
    return steps


def steps_of(seed, moves, within=()):
    """How many steps a life without deaths has."""
    house = House(seed)
    with house.patched():
        steps = live(house, moves, (), within)
        house.finish()
    assert house.deaths == 0
    return steps


def die(seed, moves, deaths, within=()):
    """Live, and die at these steps; then everything that was begun is brought to its end."""
    house = House(seed)
    with house.patched():
        live(house, moves, deaths, within)
        house.finish()
    assert 1 <= house.deaths <= len(deaths)


@pytest.mark.parametrize("seed", range(4))
def test_after_a_death_the_next_dispatcher_goes_on(seed):
    """At one of many steps of all that it does."""
    steps = steps_of(seed, 12)
    assert steps > 1000
    for step in range(1 + seed, steps + 1, 307):
        die(seed, 12, [step])


LONGEST = {
    "prepare": 22,
    "_finish": 22,
    "prepare_slot": 22,
    "_end_with": 13,
    "_take": 13,
    "_end": 15,
    "keep": 21,
    "_send": 12,
    "_take_back": 8,
    "recover_slot": 22,
    "take_returned": 14,
    "take_back": 14,
}
"""The functions with the longest orders of stores; and a seed whose life calls them often."""


@pytest.mark.parametrize(("function", "seed"), LONGEST.items())
def test_after_a_death_at_each_step_of_a_function_the_next_dispatcher_goes_on(function, seed):
    """Of its first 60 steps."""
    steps = steps_of(seed, 10, {function})
    assert steps
    for step in range(1, min(steps, 60) + 1):
        die(seed, 10, [step], {function})


@pytest.mark.parametrize("seed", range(3))
def test_the_next_dispatcher_may_die_while_it_takes_over(seed):
    """And the one after it."""
    steps = steps_of(seed, 10)
    for step in range(1 + seed, steps + 1, 499):
        die(seed, 10, [step, step + 20 + 7 * seed, step + 60 + 31 * seed])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_after_a_death_at_any_step_the_next_dispatcher_goes_on():
    """Of several lives; it takes half an hour."""
    for seed in range(100, 104):
        for step in range(1, steps_of(seed, 12) + 1, 3):
            die(seed, 12, [step])
