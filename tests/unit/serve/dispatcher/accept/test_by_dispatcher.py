"""`ByDispatcher`: even loads, credit, capacity, and the end."""

import contextlib
import os

from fdpass.serve.dispatcher.accept.active_workers import WINDOW
from fdpass.serve.dispatcher.accept.base import BURST
from fdpass.serve.shared import messages


def test_nothing_is_accepted_while_no_worker_is_active(fakes, accepting):
    accepting.connect()
    fakes.run_loop()
    assert accepting.watched == set()
    assert accepting.connections.accepted == 0
    worker = accepting.add_worker(0)
    fakes.run_loop()
    assert accepting.take(worker) == [0]


def test_a_burst_is_spread_and_each_worker_gets_its_own_in_one_message(fakes, accepting):
    workers = [accepting.add_worker(row) for row in range(4)]
    accepting.connect(BURST)
    fakes.run_loop(1)
    for worker in workers:
        ((word, data, count),) = fakes.read(accepting.worker_ends[worker.row])
        assert (word, len(data) // 4 - 1, count) == (messages.HANDOFF, BURST // 4, BURST // 4)


def test_one_by_one_the_load_differs_by_one_at_most(fakes, accepting):
    workers = [accepting.add_worker(row) for row in range(3)]
    for _ in range(10):
        accepting.connect()
        fakes.run_loop(2)
        loads = [accepting.live(worker) for worker in workers]
        assert max(loads) - min(loads) <= 1
    assert sum(loads) == 10


def test_connections_of_all_listeners_are_accepted(fakes, new_accepting):
    accepting = new_accepting(binds=["127.0.0.1:0"] * 3)
    worker = accepting.add_worker(0)
    for listener in range(3):
        accepting.connect(2, listener)
    fakes.run_loop()
    assert len(accepting.take(worker)) == 6


def test_a_worker_gets_no_more_than_its_window_untaken(fakes, accepting):
    """Then the listener is not watched: the kernel's backlog is the queue, and nothing is dropped."""
    worker = accepting.add_worker(0)
    accepting.connect(WINDOW + 10)
    fakes.run_loop(8)
    assert worker.untaken == WINDOW
    assert accepting.watched == set()
    assert fakes.ledger.starved[0]
    first = accepting.take(worker)
    fakes.run_loop(8)
    assert not fakes.ledger.starved[0]
    assert len(first) == WINDOW
    assert len(accepting.take(worker)) == 10


def test_a_worker_with_credit_gets_what_one_without_cannot(fakes, accepting):
    slow, quick = accepting.add_worker(0), accepting.add_worker(1)
    for _ in range(5):
        accepting.connect(60)
        fakes.run_loop(6)
        accepting.take(quick)
    assert slow.untaken == WINDOW
    assert accepting.live(slow) + accepting.live(quick) == 300


def test_a_worker_at_its_capacity_gets_no_more(fakes, new_accepting):
    accepting = new_accepting(capacity=5)
    worker = accepting.add_worker(0)
    accepting.connect(8)
    fakes.run_loop(8)
    slots = accepting.take(worker)
    assert len(slots) == 5
    assert accepting.watched == set()
    accepting.finish(worker, slots[:2])
    fakes.run_loop(8)
    assert len(accepting.take(worker)) == 2


def test_no_more_connections_live_than_max_connections(fakes, new_accepting):
    accepting = new_accepting(most=5)
    worker = accepting.add_worker(0)
    accepting.connect(8)
    fakes.run_loop(8)
    slots = accepting.take(worker)
    assert accepting.connections.live == len(slots) == 5
    assert accepting.watched == set()
    accepting.finish(worker, slots)
    fakes.run_loop(8)
    assert len(accepting.take(worker)) == 3


# The end


def test_connections_that_still_wait_at_the_end_are_closed(fakes, accepting):
    worker = accepting.add_worker(0)
    accepting.connect(2)
    fakes.run_loop()
    accepting.acceptor.remove(worker)
    accepting.acceptor.recover(worker)
    accepting.acceptor.drain(lambda: None)
    accepting.acceptor.drop_waiting()
    assert (accepting.connections.live, accepting.connections.lost) == (0, 2)
    for client in accepting.clients:
        client.settimeout(60)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_worker_that_was_removed_is_not_chosen_any_more(fakes, accepting):
    first = accepting.add_worker(0)
    accepting.acceptor.remove(first)
    accepting.acceptor.remove(first)
    assert accepting.acceptor._workers.loads() == []
    accepting.acceptor.proceed()
    assert accepting.watched == set()


def test_without_custody_descriptors_are_closed_when_they_were_passed(fakes, accepting):
    """Without custody, the dispatcher's own duplicate is closed at once."""
    accepting.add_worker(0)
    before = len(os.listdir("/proc/self/fd"))
    accepting.connect(20)
    fakes.run_loop()
    assert len(os.listdir("/proc/self/fd")) == before + 20  # the clients' own
