"""Each order of stores in `keeper.estate`, at each of its prefixes: the next dispatcher goes on, or dies too.

A scene is what clients and workers have done, and what the dispatcher does then. It dies at each step of that; the
next one dies at steps of its adoption; the one after it brings everything to its end.
"""

import pytest

from fdpass.serve.shared.ledger import RING
from fdpass.serve.shared.slots import BASE, FINAL_BASE, FINAL_END, FLAGS

from ._deaths import each_step_is_seen
from ._house import SAFE, UNSAFE, Conn, House

pytestmark = each_step_is_seen

LAST = 400  # more steps than an adoption has


class Sure:
    """In the place of `random.Random`: a message is always sent, unless told otherwise."""

    def __init__(self):
        self.value = 0.0

    def random(self):
        return self.value

    def choice(self, several):
        return several[0]


class Scene(House):
    """A house in which nothing is left to chance."""

    rounds = 8

    def __init__(self):
        super().__init__(0)
        self.random = Sure()
        self.ledger.clear = self.clear

    def clear(self, row):
        """As `Ledger.clear`, whose thousand stores are not counted as steps: no worker has the row."""
        for column in self.ledger._columns:
            column[row] = 0
        self.ledger._rings[row * RING : (row + 1) * RING] = memoryview(bytes(8 * RING)).cast("q")

    def take_over(self):
        super().take_over()
        self.random.value = 0.0

    def connect(self, count=1):
        """Clients connect; the dispatcher does not know of it yet."""
        for _ in range(count):
            self.conns.append(Conn(len(self.conns)))
            self.kernel.backlog.append(self.conns[-1])

    def served(self, count=1, *, read=0):
        """Connections that workers have, with bytes read. Returns the worker and the slot of the first."""
        self.connect(count)
        self.accept()
        for worker in self.workers:
            worker.run()
        for worker in self.workers:
            for slot in worker.mine:
                for _ in range(read):
                    worker.read(slot)
        return self.first()

    def first(self):
        return next((worker, slot) for worker in self.workers for slot in worker.mine)

    def request(self, flags, count=1):
        """A whole request, for which the application was called."""
        worker, slot = self.served(count, read=4)
        worker.call(slot, flags)
        return worker, slot

    def handed_on(self, times, flags=0):
        """The request of a worker that died, and that so many others have got since. Returns the last one."""
        worker, slot = self.request(flags) if flags else self.served(read=2)
        for _ in range(times):
            worker.die()
            self.bury()
            self.check()
            for each in self.workers:
                each.run()
            worker, slot = self.first()
        return worker, slot


def accepted(house):
    house.connect(3)
    return house.accept


def not_sent(house):
    house.connect(2)
    house.random.value = 0.95

    def accept():
        house.accept()
        house.random.value = 0.0

    return accept


def not_read(house):
    house.connect(3)
    house.accept()
    house.workers[0].die()
    return house.bury


def ended(house):
    worker, slot = house.served(2)
    worker.end(slot)
    return house.read_reports


def ended_but_not_shut(house):
    worker, slot = house.served(2)
    house.random.value = 0.7
    worker.end(slot)
    house.random.value = 0.0
    return house.read_reports


def ended_by_a_worker_that_died(house):
    worker, slot = house.served(2)
    house.random.value = 0.7
    worker.end(slot)
    house.random.value = 0.0
    worker.reports.clear()  # it could not send the report
    worker.die()
    return house.bury


def returned(house):
    worker, slot = house.served(2)
    worker.give_back(slot)
    return house.read_reports


def moved(house):
    worker, slot = house.served(2, read=3)
    worker.give_back(slot)
    return house.read_reports


def moved_twice(house):
    worker, slot = house.served(read=2)
    worker.give_back(slot)
    house.read_reports()
    for each in house.workers:
        each.run()
    worker, slot = house.first()
    worker.read(slot)
    worker.give_back(slot)
    return house.read_reports


def moved_by_a_worker_that_died(house):
    worker, slot = house.served(2, read=3)
    worker.give_back(slot)
    worker.die()
    return house.bury


def dead_idle(house):
    worker, _ = house.served(3)
    worker.die()
    return house.bury


def dead_with_part_of_a_request(house):
    worker, _ = house.served(3, read=2)
    worker.die()
    return house.bury


def dead_in_a_safe_request(house):
    worker, _ = house.request(SAFE, 3)
    worker.die()
    return house.bury


def dead_in_an_unsafe_request(house):
    worker, _ = house.request(UNSAFE, 2)
    worker.die()
    return house.bury


def dead_after_a_response(house):
    worker, slot = house.request(UNSAFE)
    conn, words = worker.mine[slot], worker.words(slot)
    words[FINAL_BASE], words[FINAL_END] = words[BASE] + 4, conn.wrote + 3
    conn.wrote += 3
    worker.die()
    return house.bury


def dead_in_a_response(house):
    worker, slot = house.request(UNSAFE)
    conn, words = worker.mine[slot], worker.words(slot)
    words[FINAL_BASE], words[FINAL_END] = words[BASE] + 4, conn.wrote + 3
    conn.wrote += 1
    assert words[FLAGS]
    worker.die()
    return house.bury


def handed_on_once_and_not_read(house):
    house.handed_on(1)
    worker, _ = house.first()
    worker.die()
    house.bury()
    house.check()
    dead = next(each for each in house.workers if each.channel)
    dead.die()
    return house.bury


def handed_on_once(house):
    worker, _ = house.handed_on(1)
    worker.die()
    return house.bury


def handed_on_twice(house):
    worker, _ = house.handed_on(2)
    worker.die()
    return house.bury


def handed_on_as_often_as_may_be(house):
    worker, _ = house.handed_on(3)
    worker.die()
    return house.bury


def handed_on_and_moved(house):
    worker, slot = house.handed_on(1)
    worker.read(slot)
    worker.give_back(slot)
    return house.read_reports


def handed_on_and_called(house):
    worker, slot = house.handed_on(1, SAFE)
    worker.call(slot, SAFE)
    worker.die()
    return house.bury


def handed_on_and_answered(house):
    worker, slot = house.handed_on(1, SAFE)
    worker.call(slot, SAFE)
    worker.respond(slot)
    for _ in range(2):
        worker.read(slot)  # the next request
    worker.die()
    return house.bury


SCENES = [
    accepted, not_sent, not_read, ended, ended_but_not_shut, ended_by_a_worker_that_died,
    returned, moved, moved_twice, moved_by_a_worker_that_died,
    dead_idle, dead_with_part_of_a_request, dead_in_a_safe_request, dead_in_an_unsafe_request,
    dead_after_a_response, dead_in_a_response,
    handed_on_once_and_not_read, handed_on_once, handed_on_twice, handed_on_as_often_as_may_be,
    handed_on_and_moved, handed_on_and_called, handed_on_and_answered,
]  # fmt: skip


def play(scene, step, *more):
    """Play a scene, in which dispatchers die at these steps: of the scene, and then of each adoption.

    Returns:
        How many steps the last one had that was to die; 0 if it died.
    """
    house = Scene()
    with house.patched():
        act = scene(house)
        taken = house.act(act, step)
        for death in more:
            if not taken.died:
                break
            house.take_over()
            taken = house.act(house.adopt, death)
        if taken.died:
            house.take_over()
            house.adopt()
        house.read_reports()
        house.check()
        house.finish()
    return 0 if taken.died else taken.steps


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_each_prefix_of_what_the_dispatcher_does_can_be_adopted(scene):
    steps = play(scene, 0)
    assert steps
    for step in range(1, steps + 1):
        assert not play(scene, step)


def adoptions(scene, some, each):
    """Die in the scene, at every so many steps, and then in the adoption, at every so many steps."""
    for step in range(1, play(scene, 0) + 1, some):
        for death in range(1, LAST, each):
            if play(scene, step, death):
                break


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_each_prefix_of_an_adoption_can_be_adopted(scene):
    """Some of them: the soak has all."""
    adoptions(scene, 37, 17)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_each_prefix_of_each_adoption_can_be_adopted(scene):
    adoptions(scene, 1, 1)
