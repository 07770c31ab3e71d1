"""The dispatcher's books after any sequence of events: the sums agree, and each slot is one connection's."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fdpass.serve.dispatcher.connections import Connections

MOST = 12
rows = st.integers(0, 3)


class Books(RuleBasedStateMachine):
    """Beside a model: the slots that are held, offered, and each worker's."""

    def __init__(self):
        super().__init__()
        self.books = Connections(MOST)
        self.held, self.offers, self.of = set(), [], {row: set() for row in range(4)}
        self.finished = self.lost = self.accepted = 0

    def taken(self):
        return self.held.union(*self.of.values(), *self.offers)

    @precondition(lambda self: self.books.room > 0)
    @rule()
    def accept(self):
        slot = self.books.accept()
        assert slot not in self.taken()
        self.held.add(slot)
        self.accepted += 1

    @precondition(lambda self: self.held)
    @rule(row=rows, data=st.data())
    def hand(self, row, data):
        slot = data.draw(st.sampled_from(sorted(self.held)))
        self.books.hand([slot], row)
        self.held.remove(slot)
        self.of[row].add(slot)

    @rule(row=rows, data=st.data())
    def take_back(self, row, data):
        for slot in data.draw(st.sets(st.sampled_from(sorted(self.of[row])))) if self.of[row] else ():
            self.books.take_back(slot)
            self.of[row].remove(slot)
            self.held.add(slot)

    @rule(row=rows, slot=st.integers(0, 2 * MOST), how=st.sampled_from(["finish", "lose"]))
    def report(self, row, slot, how):
        """Any worker reports the end of any slot: it counts only if it is its own."""
        own = slot in self.of[row]
        assert getattr(self.books, how)(slot, row) == own
        if own:
            self.of[row].remove(slot)
            self.finished += how == "finish"
            self.lost += how == "lose"

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def drop(self, data):
        slot = data.draw(st.sampled_from(sorted(self.held)))
        self.books.drop(slot)
        self.held.remove(slot)
        self.lost += 1

    @rule(row=rows)
    def die(self, row):
        assert self.books.lose_all(row) == len(self.of[row])
        self.lost += len(self.of[row])
        self.of[row].clear()

    @rule(count=st.integers(1, 4))
    def offer(self, count):
        slots = []
        for _ in range(min(count, self.books.room)):
            slot = self.books.offer()
            assert slot not in self.taken()
            assert slot not in slots
            slots.append(slot)
        self.offers.append(slots)

    @precondition(lambda self: self.offers)
    @rule(row=rows, data=st.data())
    def settle(self, row, data):
        slots = self.offers.pop(data.draw(st.integers(0, len(self.offers) - 1)))
        used = data.draw(st.integers(0, len(slots)))
        self.books.settle(slots, used, row)
        self.of[row].update(slots[:used])
        self.accepted += used

    @invariant()
    def sums_agree(self):
        books = self.books
        assert books.accepted == books.finished + books.live + books.lost
        assert (books.accepted, books.finished, books.lost) == (self.accepted, self.finished, self.lost)
        assert books.live == len(self.held) + sum(map(len, self.of.values()))
        assert books.room == MOST - len(self.taken())
        assert max(self.taken(), default=0) < MOST


TestBooks = Books.TestCase
TestBooks.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
