"""The drain at a stop: workers get the connections that are in the backlogs, and none that come later."""

import contextlib
import socket

import pytest

from fdpass.serve.dispatcher.accept.active_workers import WINDOW
from fdpass.serve.dispatcher.accept.base import BURST

from .._accepting_cases import ByWorkerCase


class Calls:
    """What `drain` gets as ``then``: counts its calls."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


@pytest.fixture
def then():
    return Calls()


# The dispatcher accepts


def test_a_drain_accepts_the_backlog_and_nothing_that_comes_later(fakes, new_accepting, then):
    accepting = new_accepting(binds=["127.0.0.1:0"] * 2)
    worker = accepting.add_worker(0)
    accepting.connect(BURST + 6)
    accepting.connect(3, 1)
    accepting.acceptor.drain(then)
    assert then.count == 1
    assert len(accepting.take(worker)) == BURST + 9
    assert [each.sock.fileno() for each in accepting.listeners] == [-1, -1]
    fakes.run_loop()
    accepting.acceptor.check_workers()
    assert (accepting.watched, accepting.connections.accepted, then.count) == (set(), BURST + 9, 1)


def test_a_drain_closes_each_listener_as_soon_as_its_backlog_is_empty(new_accepting, then):
    accepting = new_accepting(binds=["127.0.0.1:0"] * 2)
    worker = accepting.add_worker(0)
    names = [each.sock.getsockname() for each in accepting.listeners]
    accepting.connect(WINDOW + 10, 1)
    accepting.acceptor.drain(then)
    assert then.count == 0, "the worker has no credit"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(names[0], 60)
    accepting.take(worker)
    assert then.count == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(names[1], 60)
    accepting.take(worker)


def test_a_drain_waits_for_a_worker_that_gets_stuck_meanwhile(fakes, new_accepting, then):
    accepting = new_accepting()
    worker = accepting.add_worker(0)
    accepting.connect(5)
    fakes.hang(worker)
    accepting.acceptor.drain(then)
    accepting.acceptor.check_workers()
    assert (then.count, accepting.take(worker)) == (0, [])
    fakes.beat(worker)
    accepting.acceptor.check_workers()
    assert then.count == 1
    assert len(accepting.take(worker)) == 5


def test_a_drain_waits_for_a_worker_that_was_stuck_before(fakes, new_accepting, then):
    accepting = new_accepting()
    worker = accepting.add_worker(0)
    fakes.hang(worker)
    accepting.acceptor.check_workers()
    accepting.connect(5)
    accepting.acceptor.drain(then)
    assert (then.count, accepting.connections.accepted) == (0, 0)
    fakes.beat(worker)
    accepting.acceptor.check_workers()
    assert then.count == 1
    assert len(accepting.take(worker)) == 5


def test_a_drain_waits_for_a_worker_without_credit(new_accepting, then):
    accepting = new_accepting()
    worker = accepting.add_worker(0)
    accepting.connect(WINDOW + 10)
    accepting.acceptor.drain(then)
    assert then.count == 0
    assert len(accepting.take(worker)) == WINDOW
    assert then.count == 1
    assert len(accepting.take(worker)) == 10


def test_a_drain_does_not_wait_for_a_stuck_worker_if_another_runs(fakes, new_accepting, then):
    accepting = new_accepting()
    stuck, other = accepting.add_worker(0), accepting.add_worker(1)
    fakes.hang(stuck)
    accepting.connect(5)
    accepting.acceptor.drain(then)
    assert then.count == 1
    assert len(accepting.take(other)) == 5


def test_a_drain_ends_when_the_last_worker_dies(fakes, new_accepting, then):
    accepting = new_accepting()
    dead = accepting.add_worker(0)
    fakes.hang(dead)
    accepting.connect(5)
    accepting.acceptor.drain(then)
    accepting.lose_worker(dead)
    assert then.count == 1


@pytest.mark.parametrize("limits", [{"most": 4}, {"capacity": 4}], ids=["in all", "of a worker"])
def test_a_drain_leaves_what_exceeds_the_bounds_in_the_backlog(new_accepting, then, limits):
    accepting = new_accepting(**limits)
    worker = accepting.add_worker(0)
    accepting.connect(6)
    accepting.acceptor.drain(then)
    assert then.count == 1
    assert len(accepting.take(worker)) == 4


def test_a_drain_ends_though_clients_go_on_connecting(fakes, new_accepting, then, monkeypatch):
    monkeypatch.setattr("fdpass.serve.dispatcher.accept.drain.MOST_DRAINED", 10)
    accepting = new_accepting()
    worker = accepting.add_worker(0)
    fakes.hang(worker)
    accepting.connect(BURST)
    accepting.acceptor.drain(then)
    accepting.connect(BURST)
    fakes.beat(worker)
    accepting.acceptor.check_workers()
    assert (then.count, accepting.connections.accepted) == (1, BURST)


def test_a_drain_ends_though_a_listener_fails_at_each_accept(new_accepting, then):
    accepting = new_accepting()
    accepting.add_worker(0)
    accepting.listeners[0].sock.shutdown(socket.SHUT_RDWR)  # from now on accept(2) fails with EINVAL
    accepting.acceptor.drain(then)
    assert then.count == 1


def test_a_drain_that_is_closed_does_not_report_its_end(fakes, new_accepting, then):
    accepting = new_accepting()
    worker = accepting.add_worker(0)
    fakes.hang(worker)
    accepting.connect(1)
    accepting.acceptor.drain(then)
    accepting.acceptor.close()
    fakes.beat(worker)
    accepting.acceptor.check_workers()
    assert then.count == 0


# The workers accept


@pytest.fixture(params=["tcp", "unix"])
def accepting(request, fakes, tmp_path):
    binds = ("127.0.0.1:0",) if request.param == "tcp" else (f"unix:{tmp_path}/s",)
    with contextlib.closing(ByWorkerCase(fakes, binds=binds)) as accepting:
        yield accepting


def test_a_drain_gives_turns_until_the_backlog_is_empty(accepting, then):
    workers = [accepting.add_worker(row) for row in range(2)]
    accepting.connect(7)
    accepting.acceptor.drain(then)
    served = 0
    while not then.count:
        served += sum(len(accepting.serve(worker)) for worker in workers)
    assert served == accepting.connections.accepted == 7
    assert accepting.listeners[0].sock.fileno() == -1
    accepting.acceptor.check_workers()
    assert [accepting.read_turns(worker) for worker in workers] == [[], []]
    assert (accepting.watched, then.count) == (set(), 1)


def test_a_drain_waits_for_an_open_turn(fakes, accepting, then):
    worker = accepting.add_worker(0)
    accepting.connect()
    fakes.run_loop()
    accepting.acceptor.drain(then)
    assert then.count == 0
    while not then.count:
        accepting.serve(worker)
    assert accepting.connections.accepted == 1


def test_a_drain_gives_a_stuck_worker_its_turn_when_it_runs_again(fakes, accepting, then):
    worker = accepting.add_worker(0)
    fakes.hang(worker)
    accepting.acceptor.check_workers()
    accepting.connect(3)
    accepting.acceptor.drain(then)
    assert then.count == 0
    fakes.beat(worker)
    accepting.acceptor.check_workers()
    while not then.count:
        accepting.serve(worker)
    assert accepting.connections.accepted == 3


def test_a_drain_without_workers_ends_at_once(accepting, then):
    accepting.connect()
    accepting.acceptor.drain(then)
    assert then.count == 1
