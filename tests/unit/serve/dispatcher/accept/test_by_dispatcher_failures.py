"""`ByDispatcher` goes on when workers hang or die, descriptors run out, and clients go away."""

import errno
import logging
import socket

import pytest

from fdpass.serve.shared import messages
from fdpass.testing import full_table


def test_a_stuck_worker_gets_nothing_new_and_what_it_has_not_read_goes_to_another(fakes, accepting):
    stuck = accepting.add_worker(0)
    accepting.connect(64)
    fakes.run_loop()
    assert stuck.untaken == 64
    other = accepting.add_worker(1)
    fakes.hang(stuck)
    accepting.acceptor.check_workers()
    assert accepting.live(stuck) == stuck.untaken == 0
    assert len(accepting.take(other)) == 64
    assert accepting.connections.rehanded == 64
    accepting.connect(4)
    fakes.run_loop()
    assert len(accepting.take(other)) == 4
    assert fakes.read(accepting.worker_ends[0]) == []
    fakes.beat(stuck)
    accepting.acceptor.check_workers()
    accepting.connect(4)
    fakes.run_loop()
    assert len(accepting.take(stuck)) == 4


def test_the_only_worker_keeps_its_connections_while_it_is_stuck(fakes, accepting):
    """No other worker could take them, and this one may run again."""
    stuck = accepting.add_worker(0)
    accepting.connect(3)
    fakes.run_loop()
    fakes.hang(stuck)
    accepting.acceptor.check_workers()
    assert stuck.untaken == 3
    assert accepting.watched == set()


def test_messages_other_than_connections_stay_in_the_channel_of_a_stuck_worker(fakes, accepting):
    """With their descriptors: an access log that was opened again, for example."""
    stuck, _ = accepting.add_worker(0), accepting.add_worker(1)
    stuck.send(messages.LOG, [0])
    accepting.connect(2)
    fakes.run_loop()
    fakes.hang(stuck)
    accepting.acceptor.check_workers()
    assert fakes.read(accepting.worker_ends[0]) == [(messages.LOG, b"", 1)]


def test_of_a_dead_worker_only_the_connections_that_it_had_taken_are_lost(fakes, accepting):
    dead = accepting.add_worker(0)
    accepting.connect(5)
    fakes.run_loop()
    accepting.take(dead)
    accepting.connect(3)
    fakes.run_loop()
    other = accepting.add_worker(1)
    accepting.lose_worker(dead)
    assert len(accepting.take(other)) == 3
    assert (accepting.connections.lost, accepting.connections.live) == (5, 3)


def test_what_a_dead_worker_had_not_read_waits_for_the_next_worker(fakes, accepting):
    dead = accepting.add_worker(0)
    accepting.connect(3)
    fakes.run_loop()
    accepting.lose_worker(dead)
    assert (accepting.connections.lost, accepting.connections.live) == (0, 3)
    assert accepting.watched == set()
    assert len(accepting.take(accepting.add_worker(5))) == 3


def test_taking_back_with_a_full_descriptor_table_loses_only_what_does_not_fit(fakes, accepting):
    """recvmsg(2) installs as many descriptors as it can: the other connections are counted as lost."""
    stuck, other = accepting.add_worker(0), accepting.add_worker(1)
    fakes.hang(other)
    accepting.acceptor.check_workers()
    accepting.connect(10)
    fakes.run_loop()
    fakes.beat(other)
    fakes.hang(stuck)
    accepting.acceptor._workers.readmit()
    with full_table(4):
        accepting.acceptor.take_back_unread(stuck)
    accepting.acceptor.proceed()
    assert len(accepting.take(other)) == 4
    assert (accepting.connections.lost, accepting.connections.live, accepting.live(stuck)) == (6, 4, 0)


def test_a_worker_that_notes_the_end_of_a_connection_that_it_has_not_read_confuses_nothing(fakes, accepting):
    """Its slot is free at once, and may be another worker's when the channel is read."""
    dead = accepting.add_worker(0)
    accepting.connect(2)
    fakes.run_loop()
    fakes.ledger.note(0, 0)
    accepting.acceptor.read_ended()
    other = accepting.add_worker(1)
    accepting.connect(1)
    fakes.run_loop()
    assert accepting.take(other) == [0]
    accepting.lose_worker(dead)
    assert accepting.take(other) == [1]
    assert (accepting.live(dead), accepting.live(other)) == (0, 2)


def test_connections_wait_while_a_workers_channel_is_full(fakes, accepting, monkeypatch):
    worker = accepting.add_worker(0)
    monkeypatch.setattr(worker, "send", lambda *_: False)
    accepting.connect(3)
    fakes.run_loop()
    assert (accepting.connections.accepted, accepting.connections.handed) == (3, 0)
    assert accepting.watched == set()
    monkeypatch.undo()
    accepting.acceptor.check_workers()
    assert accepting.take(worker) == [0, 1, 2]
    assert (accepting.live(worker), worker.sent) == (3, 3)


# accept(2) fails


def test_accepting_pauses_while_the_descriptor_table_is_full(fakes, accepting, caplog):
    caplog.set_level(logging.WARNING, "fdpass.serve")
    worker = accepting.add_worker(0)
    accepting.connect(10)
    with full_table(3):
        fakes.run_loop(20)
        assert accepting.watched == set()
        assert accepting.connections.accepted == 3
    fakes.run_until(lambda: accepting.connections.accepted == 10)
    assert len(accepting.take(worker)) == 10
    assert 1 <= len(caplog.records) <= 3
    assert "cannot accept: Too many open files" in caplog.text


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN])
def test_a_client_that_goes_away_before_it_is_accepted_stops_nothing(fakes, accepting, number):
    failures = [number]

    class Flaky(socket.socket):
        def _accept(self):
            if failures:
                raise OSError(failures.pop(), "")
            return super()._accept()

    real = accepting.listeners[0].sock
    accepting.listeners[0].sock = Flaky(real.family, real.type, real.proto, fileno=real.detach())
    accepting.listeners[0].sock.setblocking(False)
    worker = accepting.add_worker(0)
    accepting.connect(2)
    fakes.run_loop()
    assert failures == []
    assert len(accepting.take(worker)) == 2


def test_a_connection_that_was_reset_before_it_is_accepted_is_passed_like_others(fakes, accepting):
    """accept(2) returns it on Linux; the worker sees the reset when it reads."""
    accepting.connect()
    client = accepting.clients.pop()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    worker = accepting.add_worker(0)
    fakes.run_loop()
    assert len(accepting.take(worker)) == 1
