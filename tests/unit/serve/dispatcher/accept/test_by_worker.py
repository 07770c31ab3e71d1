"""`ByWorker`: turns are given, checked and settled, and taken from workers that die or hang."""

import contextlib

import pytest

from fdpass.errors import ProtocolError
from fdpass.serve.shared import messages

from .._accepting_cases import ByWorkerCase


@pytest.fixture
def accepting(fakes):
    with contextlib.closing(ByWorkerCase(fakes)) as accepting:
        yield accepting


def with_a_turn(fakes, accepting):
    """A worker that has read a turn for three clients; the turn's listener, and its slots."""
    worker = accepting.add_worker(0)
    accepting.connect(3)
    fakes.run_loop()
    ((index, slots),) = accepting.read_turns(worker)
    return worker, index, slots


def test_turns_have_as_many_slots_as_clients_wait(fakes, accepting):
    workers = [accepting.add_worker(row) for row in range(2)]
    accepting.connect(10)
    fakes.run_loop()
    turns = [accepting.read_turns(worker) for worker in workers]
    assert [len(slots) for ((_, slots),) in turns] == [5, 5]
    assert accepting.connections.accepted == 0


def test_the_listener_is_not_watched_while_a_turn_is_open(fakes, accepting):
    """epoll would report it again and again."""
    workers = [accepting.add_worker(row) for row in range(2)]
    accepting.connect(2)
    fakes.run_loop()
    assert accepting.watched == set()
    accepting.serve(workers[0])
    assert accepting.watched == set()
    accepting.serve(workers[1])
    assert accepting.watched == {0}
    assert accepting.connections.live == accepting.connections.handed == 2


def test_the_load_differs_by_one_at_most(fakes, accepting):
    workers = [accepting.add_worker(row) for row in range(3)]
    for _ in range(10):
        accepting.connect()
        fakes.run_loop()
        for worker in workers:
            accepting.serve(worker)
    loads = [accepting.live(worker) for worker in workers]
    assert sum(loads) == 10
    assert max(loads) - min(loads) <= 1


def test_slots_of_a_turn_that_were_not_used_are_free_again(fakes, accepting):
    """Another worker took the connection, or its client went away."""
    worker, index, slots = with_a_turn(fakes, accepting)
    used = accepting.accept((index, slots[:1]))
    accepting.acceptor.on_accepted(worker, used)
    assert (accepting.connections.accepted, accepting.live(worker)) == (1, 1)
    assert accepting.connections.available == 999
    fakes.run_loop()
    assert len(accepting.serve(worker)) == 2


def test_listeners_have_turns_of_their_own(fakes, tmp_path):
    with contextlib.closing(ByWorkerCase(fakes, binds=("127.0.0.1:0", f"unix:{tmp_path}/s"))) as accepting:
        worker = accepting.add_worker(0)
        accepting.connect(1, 0)
        fakes.run_loop()
        assert accepting.watched == {1}
        accepting.connect(2, 1)
        fakes.run_loop()
        assert accepting.watched == set()
        assert [index for index, _ in accepting.read_turns(worker)] == [0, 1]


def test_offered_slots_count_towards_the_bounds_on_connections(fakes):
    with contextlib.closing(ByWorkerCase(fakes, most=5, capacity=3)) as accepting:
        workers = [accepting.add_worker(row) for row in range(2)]
        accepting.connect(9)
        fakes.run_loop()
        assert [len(accepting.serve(worker)) for worker in workers] == [3, 2]
        fakes.run_loop()
        assert accepting.watched == set()
        assert accepting.connections.live == 5


@pytest.mark.parametrize(
    "slots_of",
    [lambda slots: slots[1:], lambda slots: [*slots, 99], lambda slots: [99], lambda slots: slots[::-1]],
)
def test_a_report_with_other_slots_than_the_turns_is_refused(fakes, accepting, slots_of):
    worker = accepting.add_worker(0)
    accepting.connect(3)
    fakes.run_loop()
    ((_, slots),) = accepting.read_turns(worker)
    with pytest.raises(ProtocolError, match="without having a turn"):
        accepting.acceptor.on_accepted(worker, slots_of(slots))
    assert accepting.connections.accepted == 0


def test_a_report_without_a_turn_is_refused(fakes, accepting):
    worker, other = accepting.add_worker(0), accepting.add_worker(1)
    accepting.connect()
    fakes.run_loop()
    ((_, slots),) = accepting.read_turns(worker)
    for slots_told in ([], slots):
        with pytest.raises(ProtocolError):
            accepting.acceptor.on_accepted(other, slots_told)
    accepting.acceptor.on_accepted(worker, slots)
    with pytest.raises(ProtocolError):
        accepting.acceptor.on_accepted(worker, slots)


def test_a_worker_that_reports_a_turn_that_it_has_not_read_confuses_nothing(fakes, accepting):
    dead = accepting.add_worker(0)
    accepting.connect(3)
    fakes.run_loop()
    accepting.acceptor.remove(dead)
    accepting.acceptor.on_accepted(dead, [])
    assert accepting.acceptor.recover(dead) == ""
    assert accepting.connections.available == 1000


# Workers that are stuck, or die


def test_a_turn_that_a_stuck_worker_has_not_read_is_taken_back(fakes, accepting):
    stuck = accepting.add_worker(0)
    accepting.connect(4)
    fakes.run_loop()
    other = accepting.add_worker(1)
    fakes.hang(stuck)
    accepting.acceptor.check_workers()
    assert (accepting.live(stuck), len(stuck.turns)) == (0, 0)
    fakes.run_loop()
    assert len(accepting.serve(other)) == 4
    assert accepting.read_turns(stuck) == []


def test_a_turn_that_a_stuck_worker_has_read_does_not_hold_up_others(fakes, accepting):
    stuck = accepting.add_worker(0)
    accepting.connect(4)
    fakes.run_loop()
    ((index, slots),) = accepting.read_turns(stuck)
    other = accepting.add_worker(1)
    fakes.hang(stuck)
    accepting.acceptor.check_workers()
    assert accepting.watched == {0}
    fakes.run_loop()
    assert len(accepting.serve(other)) == 4
    fakes.beat(stuck)  # it runs again, and finds no connection
    accepting.acceptor.on_accepted(stuck, accepting.accept((index, slots)))
    assert (accepting.live(stuck), accepting.connections.live) == (0, 4)
    assert accepting.watched == {0}


def test_messages_other_than_turns_stay_in_the_channel_of_a_stuck_worker(fakes, accepting):
    stuck, _ = accepting.add_worker(0), accepting.add_worker(1)
    stuck.send(messages.LOG, [0])
    accepting.connect(2)
    fakes.run_loop()
    fakes.hang(stuck)
    accepting.acceptor.check_workers()
    assert fakes.read(accepting.worker_ends[0]) == [(messages.LOG, b"", 1)]


def test_connections_that_a_dead_worker_had_not_reported_are_counted_by_the_ledger(fakes, accepting):
    """It died before it could report them: they are lost, and the other slots of its turn are free."""
    dead = accepting.add_worker(0)
    accepting.connect(5)
    fakes.run_loop()
    ((index, slots),) = accepting.read_turns(dead)
    accepting.accept((index, slots[:3]))
    fakes.ledger.accepted[0] = 3
    other = accepting.add_worker(1)
    accepting.acceptor.remove(dead)
    accepting.acceptor.recover(dead)
    assert (accepting.connections.accepted, accepting.connections.lost) == (3, 3)
    assert accepting.connections.available == 1000
    accepting.acceptor.proceed()
    fakes.run_loop()
    assert len(accepting.serve(other)) == 2


@pytest.mark.parametrize("nonsense", [-5, 10**9])
def test_an_impossible_count_in_the_ledger_is_bounded_by_the_turn(fakes, accepting, nonsense):
    dead = accepting.add_worker(0)
    accepting.connect(5)
    fakes.run_loop()
    accepting.read_turns(dead)
    fakes.ledger.accepted[0] = nonsense
    accepting.acceptor.remove(dead)
    accepting.acceptor.recover(dead)
    assert accepting.connections.lost == (0 if nonsense < 0 else 5)
    assert accepting.connections.available == 1000


def test_a_turn_that_could_not_be_sent_costs_no_slot(fakes, accepting, monkeypatch):
    worker = accepting.add_worker(0)
    monkeypatch.setattr(worker, "send", lambda *_: False)
    accepting.connect(3)
    fakes.run_loop()
    assert (accepting.live(worker), accepting.connections.available) == (0, 1000)
    assert accepting.watched == set()
    monkeypatch.undo()
    accepting.acceptor.check_workers()
    fakes.run_loop()
    assert len(accepting.serve(worker)) == 3


def test_no_turns_are_given_after_close(fakes, accepting):
    accepting.add_worker(0)
    accepting.acceptor.close()
    accepting.connect()
    fakes.run_loop()
    assert accepting.watched == set()
    accepting.acceptor.proceed()
    assert accepting.watched == set()


def test_a_connection_may_end_before_its_worker_has_reported_that_it_accepted_it(fakes, accepting):
    """The ring of the ledger can be read before the report, which waits in the channel."""
    worker, index, slots = with_a_turn(fakes, accepting)
    used = accepting.accept((index, slots))
    fakes.ledger.note(0, used[1])
    accepting.acceptor.read_ended()
    accepting.acceptor.on_accepted(worker, used)
    assert (accepting.connections.finished, accepting.live(worker)) == (1, 2)
    assert not worker.early_ends


def test_such_a_connection_has_ended_too_if_the_worker_dies_first(fakes, accepting):
    worker, index, slots = with_a_turn(fakes, accepting)
    used = accepting.accept((index, slots))
    fakes.ledger.accepted[0] += len(used)
    fakes.ledger.note(0, used[1])
    accepting.acceptor.read_ended()
    assert accepting.acceptor.recover(worker) == "; 2 connections lost"
    assert accepting.connections.finished == 1


def test_the_end_of_a_slot_that_was_not_used_is_nonsense(fakes, accepting):
    worker, index, slots = with_a_turn(fakes, accepting)
    used = accepting.accept((index, slots[:1]))
    fakes.ledger.note(0, slots[2])
    accepting.acceptor.read_ended()
    with pytest.raises(ProtocolError, match="that it does not have"):
        accepting.acceptor.on_accepted(worker, used)
