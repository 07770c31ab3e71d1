"""The facts about a connection in custody, by which `recovery.decide` decides."""

import contextlib
import select
import socket

import pytest

from fdpass.serve.dispatcher import kernel_counters as module
from fdpass.serve.dispatcher.recovery import Action, Facts
from fdpass.serve.shared.slots import BUFFER, FLAGS, Flag

from .._custody_case import Case


def test_a_new_connection_has_read_and_written_nothing(case):
    """The kernel counts no SYN at the server's end."""
    assert case.facts() == Facts(True, 0, 0)


def test_bytes_read_are_those_received_less_those_unread(tcp):
    tcp.client.sendall(b"x" * 1000)
    assert tcp.facts() == Facts(True, 0, 0)
    tcp.worker.recv(10)
    assert tcp.facts() == Facts(True, 10, 0)
    tcp.worker.recv(990, socket.MSG_WAITALL)
    assert tcp.facts() == Facts(True, 1000, 0)


def test_bytes_that_were_only_peeked_at_are_not_read(tcp):
    tcp.client.sendall(b"x" * 10)
    tcp.worker.recv(10, socket.MSG_PEEK | socket.MSG_WAITALL)
    assert tcp.facts().read == 0


@pytest.mark.parametrize("taken", [0, 3, 10])
def test_the_clients_fin_is_not_taken_for_a_byte(tcp, taken):
    """Linux counts it as one received byte; FIONREAD does not count it."""
    tcp.client.sendall(b"x" * 10)
    tcp.client.shutdown(socket.SHUT_WR)
    tcp.worker.recv(taken, socket.MSG_WAITALL)
    tcp.go_until(lambda: tcp.facts().read is not None and at_end(tcp.worker))
    assert tcp.facts() == Facts(True, taken, 0)


def test_the_clients_fin_is_not_taken_for_a_byte_after_it_was_read(tcp):
    tcp.client.sendall(b"x" * 10)
    tcp.client.shutdown(socket.SHUT_WR)
    while tcp.worker.recv(100):
        pass
    assert tcp.facts() == Facts(True, 10, 0)


def at_end(sock):
    """Whether the peer's FIN has come."""
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    return bool(poller.poll(0))


def test_bytes_written_are_those_acknowledged_and_those_not_yet(tcp):
    """Whether or not the client has read them."""
    tcp.worker.setblocking(False)
    sent = 0
    for _ in range(4):
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += tcp.worker.send(b"y" * 65536)
                assert tcp.facts() == Facts(True, 0, sent)
        tcp.client.recv(200_000)
        assert tcp.facts() == Facts(True, 0, sent)
    assert sent > 100_000


def test_both_directions_are_counted_apart(tcp):
    for turn in range(1, 30):
        tcp.client.sendall(b"x" * 7)
        tcp.worker.recv(7, socket.MSG_WAITALL)
        tcp.worker.sendall(b"y" * 13)
        assert tcp.facts() == Facts(True, 7 * turn, 13 * turn)
        tcp.client.recv(13, socket.MSG_WAITALL)
        assert tcp.facts() == Facts(True, 7 * turn, 13 * turn)


def test_a_packet_between_two_system_calls_does_not_make_them_disagree(tcp, monkeypatch):
    """Bytes arrive between TCP_INFO and FIONREAD: they have not been read."""
    asked = []
    ask = module._ioctl

    def late(number, request):
        if len(asked) < 2:
            tcp.client.sendall(b"x" * 100)
            tcp.worker.recv(100 * (len(asked) + 1), socket.MSG_PEEK | socket.MSG_WAITALL)
        asked.append(request)
        return ask(number, request)

    monkeypatch.setattr(module, "_ioctl", late)
    assert tcp.facts() == Facts(True, 0, 0)
    assert len(asked) > 2


def test_a_connection_whose_client_has_gone_is_finished(case):
    case.client.close()
    if not case.unix:  # only its FIN has come; a write brings its reset
        case.worker.sendall(b"y")
    case.go_until(lambda: not case.facts().open)
    case.slot[BUFFER] = (
        1  # of an idle slot the kernel is not asked: the next worker would see that the client has gone
    )
    assert case.die() == (Action.FINISH, b"")


def test_the_facts_of_a_unix_socket_are_the_words_of_the_slot():
    with contextlib.closing(Case("unix")) as case:
        case.client.sendall(b"x" * 10)
        assert case.facts() == Facts(True, 0, 0)
        case.read(6)
        case.write(b"y" * 3)
        assert case.facts() == Facts(True, 6, 3)
        case.slot[FLAGS] = Flag.READING
        assert case.facts() == Facts(True, None, 3)
        case.slot[FLAGS] = Flag.WRITING
        assert case.facts() == Facts(True, 6, None)
        case.client.shutdown(socket.SHUT_WR)
        assert case.facts().open
