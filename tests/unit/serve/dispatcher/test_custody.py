"""Custody with real connections: what the client sees of each action, and what the next worker gets."""

import contextlib
import errno
import os
import socket
import struct

import pytest

from fdpass.serve.dispatcher import lingering as module
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    BUFFER_SIZE,
    CALLED_BEFORE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    ORIGIN,
    READ,
    WORDS,
    WRITTEN,
    Flag,
)
from fdpass.serve.worker.passed_socket import unread

from .._custody_case import FAMILIES, HANG, Case, assert_closed


def test_an_idle_connection_goes_on_unchanged(case):
    """The slot says where the next worker continues; ATTEMPT and FLAGS are zero."""
    case.client.sendall(b"x" * 10)
    case.read(10)
    case.write(b"y" * 20)
    case.client.recv(20)
    case.slot[FINAL_BASE], case.slot[FINAL_END] = 10, 20
    case.slot[FLAGS] = Flag.CALLED
    case.slot[ATTEMPT] = 1
    case.client.sendall(b"next")
    assert case.die() == (Action.IDLE, b"")
    places = (BASE, WRITTEN, FINAL_END, FLAGS, ATTEMPT, BUFFER, ORIGIN)
    assert [case.slot[place] for place in places] == [10, 20, 0, 0, 0, 0, 10]
    assert case.custody.fd(2) == case.number
    with socket.socket(fileno=os.dup(case.number)) as heir:
        assert heir.recv(10) == b"next"
        heir.sendall(b"answer")
        assert case.client.recv(10) == b"answer"


@pytest.mark.parametrize("dies", [False, True])
def test_the_last_close_does_not_wait_for_a_client_though_the_application_has_asked_for_it(case, dies):
    case.worker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    case.slot[FLAGS] = Flag.OPAQUE
    with socket.socket(fileno=os.dup(case.number)) as other:
        if dies:
            assert case.die() == (Action.CLOSE, b"")
        else:
            case.custody.end([2])
        assert other.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 4) == bytes(4)


def test_a_replay_hands_on_the_bytes_in_the_buffer(case):
    """Bytes that were not read are still in the socket."""
    case.slot[BUFFER], case.slot[ORIGIN] = 2, 0
    case.client.sendall(b"GET / HTTP/1.1\r\n\r\nmore")
    case.read(9)
    case.slot[FLAGS] = Flag.CALLED | Flag.SAFE
    assert case.die() == (Action.REPLAY, b"GET / HTT")
    assert [case.slot[place] for place in (BASE, ATTEMPT, BUFFER, FLAGS)] == [0, 1 + CALLED_BEFORE, 0, 0]
    with socket.socket(fileno=os.dup(case.number)) as heir:
        assert heir.recv(100) == b"P/1.1\r\n\r\nmore"


@pytest.mark.parametrize("more", [b"", b"z" * 200_000], ids=["all read", "much unread"])
def test_a_502_arrives_whole_and_then_the_end_of_the_connection(case, more):
    """A plain close with unread bytes would send a reset, and the client would lose its response."""
    case.client.sendall(b"POST")
    case.read(4)
    case.slot[FLAGS] = Flag.CALLED
    case.client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        case.client.send(more)
    case.client.settimeout(HANG)
    assert case.die() == (Action.ANSWER, b"")
    answer = b""
    while piece := case.client.recv(1000):
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"content-length: %d\r\n" % len(body) in head
    assert b"connection: close" in head
    assert list(case.custody.lingering._timers) == [case.number]
    case.client.close()
    case.go_until(lambda: not case.custody.lingering)
    assert_closed(case.number)


def test_a_client_that_sends_fast_behind_its_502_does_not_keep_the_loop(case):
    """Each turn of the loop reads a part of what has come."""
    case.client.sendall(b"POST")
    case.read(4)
    case.slot[FLAGS] = Flag.CALLED
    assert case.die() == (Action.ANSWER, b"")
    case.client.setblocking(False)
    sent = case.client.send(b"z" * 200_000)
    case.custody.lingering._discard_unread(case.number)
    assert 0 < unread(case.number) < sent


def test_a_client_that_stays_after_its_502_is_closed_after_a_while(case, monkeypatch):
    monkeypatch.setattr(module, "_LINGER_SECONDS", 0.01)
    case.client.sendall(b"POST")
    case.read(4)
    case.slot[FLAGS] = Flag.CALLED
    case.die()
    case.go_until(lambda: not case.custody.lingering)
    assert_closed(case.number)


def test_connections_with_an_unread_502_are_closed_with_custody(case):
    case.client.sendall(b"POST")
    case.read(4)
    case.slot[FLAGS] = Flag.CALLED
    case.die()


def test_a_cut_answer_is_reset(tcp):
    tcp.client.sendall(b"GET")
    tcp.slot[BUFFER] = 1
    tcp.read(3)
    tcp.write(b"HTTP/1.1 200")
    assert tcp.die() == (Action.RESET, b"")
    with pytest.raises(ConnectionResetError) as found:
        while tcp.client.recv(1000):
            pass
    assert found.value.errno == errno.ECONNRESET
    assert_closed(tcp.number)


def test_a_cut_answer_on_a_unix_socket_ends_the_stream(monkeypatch):
    """A Unix socket has no reset unless bytes are unread, so the client sees the end of the stream."""
    with contextlib.closing(Case("unix")) as case:
        case.client.sendall(b"GET")
        case.slot[BUFFER] = 1
        case.read(3)
        case.write(b"HTTP/1.1 200")
        assert case.die() == (Action.RESET, b"")
        assert case.client.recv(1000) == b"HTTP/1.1 200"
        assert case.client.recv(1000) == b""


@pytest.mark.parametrize(("flags", "action"), [(Flag.CLOSING, Action.FINISH), (Flag.OPAQUE, Action.CLOSE)])
def test_a_connection_that_is_closed_keeps_all_that_was_sent(case, flags, action):
    case.client.sendall(b"GET")
    case.read(3)
    case.write(b"answer")
    case.slot[FINAL_BASE], case.slot[FINAL_END], case.slot[FLAGS] = 3, 6, flags
    assert case.die() == (action, b"")
    assert case.client.recv(100) == b"answer"
    assert case.client.recv(100) == b""
    assert_closed(case.number)


def test_each_action_is_counted_and_logged_if_a_client_notices_it(case, caplog):
    case.client.sendall(b"POST")
    case.read(4)
    case.slot[FLAGS] = Flag.CALLED
    case.die()
    assert case.custody.counts.known() == {Action.ANSWER: 1}
    assert "connection 2: answered 502" in caplog.text


def test_the_slot_of_a_new_connection_is_cleared(case):
    case.slot[0] = case.slot[WORDS - 1] = 7
    case.custody.end([2])
    case.custody.keep(2, os.dup(case.client.fileno()))
    assert not any(case.slot)


def test_shut_down_ends_a_connection_that_a_worker_still_holds(case):
    case.custody.shut_down([2])
    assert case.client.recv(1) == b""
    assert_closed(case.number)


@pytest.mark.parametrize("kind", FAMILIES)
def test_bytes_that_were_given_back_are_handed_on_until_a_worker_moves_base_beyond_them(kind):
    """They are not looked for in a buffer: BUFFER would be the number of another worker's buffer."""
    with contextlib.closing(Case(kind)) as case:
        case.slot[FLAGS], case.slot[BUFFER] = int(Flag.STREAM), 2
        case.client.sendall(b"half a line")
        assert case.read(100) == b"half a line"
        case.custody.take_back(2, b"half a line")
        assert (case.slot[BUFFER], case.slot[READ], case.slot[FLAGS]) == (0, 11, Flag.STREAM)
        assert case.die() == (Action.REPLAY, b"half a line")
        assert case.custody.recover(2, case.buffers) == (Action.REPLAY, b"half a line")
        case.slot[BASE] = 11
        assert case.custody.recover(2, case.buffers) == (Action.IDLE, b"")


def test_bytes_that_were_handed_on_are_forgotten_once_a_worker_has_moved_base_beyond_them():
    with contextlib.closing(Case("ipv4")) as case:
        case.client.sendall(b"half a line")
        case.custody.take_back(2, case.read(100))
        case.custody.forget_used()
        assert len(case.custody.handed_on) == 1
        case.slot[BASE] = 11
        case.custody.forget_used()
        assert len(case.custody.handed_on) == 0


def test_a_request_that_is_given_back_keeps_its_attempt():
    with contextlib.closing(Case("ipv4")) as case:
        case.slot[ATTEMPT] = 2 + CALLED_BEFORE
        case.client.sendall(b"GET")
        case.read(3)
        case.custody.take_back(2, b"GET")
        assert case.slot[ATTEMPT] == 2 + CALLED_BEFORE


@pytest.mark.parametrize("inline", [True, False])
def test_urgent_bytes_are_never_taken_out_of_a_buffer_for_bytes_that_were_read(inline):
    with contextlib.closing(Case("ipv4", inline=inline)) as case:
        case.slot[BUFFER] = 1
        case.buffers[: 2 * BUFFER_SIZE] = bytes(2 * BUFFER_SIZE)
        case.client.sendall(b"P")
        assert case.read(10) == b"P"
        case.client.send(b"!", socket.MSG_OOB)
        assert case.die() == ((Action.REPLAY, b"P") if inline else (Action.ANSWER, b""))


def test_bytes_of_a_connection_that_ends_are_those_of_its_slot(monkeypatch):
    """The loop in `_forget` counts as `ByteCounts.total` does, with the bits of raw handlers left out."""
    from fdpass._supervision.loop import Loop
    from fdpass.serve.dispatcher.custody import Custody
    from fdpass.serve.keeper.estate import Estate
    from fdpass.serve.shared.slots import BASE, FINAL, FINAL_BASE, FINAL_END, SECOND, WORDS, WRITTEN

    loop = Loop()
    custody = Custody(loop, Estate.private(4), "safe")
    for slot, words in enumerate(
        (
            {BASE: 100, WRITTEN: 200},
            {BASE: 100, WRITTEN: 200 | SECOND},
            {BASE: 100, WRITTEN: 200, FINAL_BASE: 150, FINAL_END: 260 | FINAL},
        )
    ):
        custody.keep(slot, os.open(os.devnull, os.O_RDONLY))
        for word, value in words.items():
            custody._words[slot * WORDS + word] = value
    expected = custody.bytes_so_far()
    assert expected == (350, 660)
    custody.end([0, 1, 2])
    assert custody.bytes_so_far() == expected
    custody.close()
    loop.close()
