"""`Connections` after any sequence of events: the sums agree, and each slot is one connection's."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fdpass.serve.dispatcher.connections import Connections
from fdpass.serve.keeper.estate import Estate

MOST = 12
rows = st.integers(0, 3)


class ConnectionsMachine(RuleBasedStateMachine):
    """Compares with a model: the slots that are held, offered, and each worker's."""

    def __init__(self):
        super().__init__()
        self.connections = Connections(Estate.private(MOST), memoryview(bytearray(8 * MOST)).cast("q"))
        self.held, self.offers, self.of = set(), [], {row: set() for row in range(4)}
        self.finished = self.lost = self.accepted = 0

    def taken(self):
        return self.held.union(*self.of.values(), *(slots for _, slots in self.offers))

    @precondition(lambda self: self.connections.available > 0)
    @rule()
    def accept(self):
        slot = self.connections.accept()
        assert slot not in self.taken()
        self.held.add(slot)
        self.accepted += 1

    @precondition(lambda self: self.held)
    @rule(row=rows, data=st.data())
    def hand(self, row, data):
        slot = data.draw(st.sampled_from(sorted(self.held)))
        self.connections.hand([slot], row)
        self.held.remove(slot)
        self.of[row].add(slot)

    @rule(row=rows, data=st.data())
    def take_back(self, row, data):
        for slot in data.draw(st.sets(st.sampled_from(sorted(self.of[row])))) if self.of[row] else ():
            self.connections.take_back(slot)
            self.of[row].remove(slot)
            self.held.add(slot)

    @rule(row=rows, slot=st.integers(0, 2 * MOST), how=st.sampled_from(["finish", "lose"]))
    def report(self, row, slot, how):
        """Any worker reports the end of any slot: it counts only if it is its own."""
        own = slot in self.of[row]
        assert getattr(self.connections, how)(slot, row) == own
        if own:
            self.of[row].remove(slot)
            self.finished += how == "finish"
            self.lost += how == "lose"

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data):
        slot = data.draw(st.sampled_from(sorted(self.held)))
        self.connections.drop(slot)
        self.held.remove(slot)
        self.lost += 1

    @rule(row=rows)
    def die(self, row):
        assert self.connections.lose_all(row) == len(self.of[row])
        self.lost += len(self.of[row])
        self.of[row].clear()

    @rule(row=rows, count=st.integers(1, 4))
    def offer(self, row, count):
        slots = []
        for _ in range(min(count, self.connections.available)):
            slot = self.connections.offer(row)
            assert slot not in self.taken()
            assert slot not in slots
            slots.append(slot)
        self.offers.append((row, slots))

    @precondition(lambda self: self.offers)
    @rule(data=st.data())
    def settle(self, data):
        row, slots = self.offers.pop(data.draw(st.integers(0, len(self.offers) - 1)))
        used = data.draw(st.integers(0, len(slots)))
        self.connections.settle(slots, used, row)
        self.of[row].update(slots[:used])
        self.accepted += used

    @invariant()
    def sums_agree(self):
        connections = self.connections
        assert connections.accepted == connections.finished + connections.live + connections.lost
        assert (connections.accepted, connections.finished) == (self.accepted, self.finished)
        assert connections.lost == self.lost
        for row, slots in self.of.items():
            offered = sum(len(slots) for offered_to, slots in self.offers if offered_to == row)
            assert connections.live_of[row] == len(slots) + offered
        assert connections.live == len(self.held) + sum(map(len, self.of.values()))
        assert connections.available == MOST - len(self.taken())
        assert max(self.taken(), default=0) < MOST


TestConnections = ConnectionsMachine.TestCase
TestConnections.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
