"""Custody of open streams with real connections: what the client sees, what the next worker gets, and the page."""

import contextlib
import errno
import os
import socket

import pytest

from fdpass.errors import ProtocolError
from fdpass.serve.dispatcher import custody
from fdpass.serve.dispatcher.recovery import Action
from fdpass.serve.shared import pages
from fdpass.serve.shared.pages import EVENTS, WEBSOCKET, Page
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    CALLED_BEFORE,
    FINAL_BASE,
    FINAL_END,
    FLAGS,
    GIVEN,
    OPEN,
    ORIGIN,
    READ,
    REDELIVER,
    UNFINISHED,
    WRITTEN,
    WROTE,
    Flag,
)

from .._custody_case import Case, assert_closed

HANDSHAKE = b"GET /ws HTTP/1.1\r\nhost: x\r\n\r\n"
MESSAGE = b"\x81\x82mask??"
NO_PAGE = Page(0, 0, b"", b"")
CLOSE_1012 = b"\x88\x02" + (1012).to_bytes(2, "big")


class StreamCase(Case):
    """A stream that is open: its request was read, and 5 bytes of its opening were written."""

    def __init__(self, kind, page=WEBSOCKET):
        super().__init__(kind)
        self.client.sendall(HANDSHAKE)
        self.read(100)
        self.write(b"HTTP\n")
        assert self.client.recv(5) == b"HTTP\n"
        self.slot[BASE] = self.done = len(HANDSHAKE)
        self.slot[WRITTEN] = 5 | OPEN
        pages.store(self.custody._pages, 2, Page(page, 0, HANDSHAKE, b""))

    def receive(self, data=MESSAGE, *, given=0):
        """The worker reads a message into its second buffer, and gives it to the application with these bits."""
        self.slot[ORIGIN], self.slot[BUFFER] = self.slot[READ], 2
        self.client.sendall(data)
        assert self.read(100) == data
        if given:
            self.slot[GIVEN] = self.slot[READ] | (given & REDELIVER)

    def send(self, data, count=None):
        """The worker announces this frame, and gives the kernel so many bytes of it."""
        self.slot[FINAL_BASE] = self.slot[BASE]
        self.slot[FINAL_END] = self.slot[WROTE] + len(data) | OPEN
        self.write(data[:count])

    @property
    def page(self):
        return pages.load(self.custody._pages, 2)

    @property
    def allocated(self):
        return os.fstat(self.custody.pages.fileno()).st_blocks


@pytest.fixture(params=["ipv4", "unix"])
def stream(request):
    """An open WebSocket."""
    with contextlib.closing(StreamCase(request.param)) as case:
        yield case


@pytest.fixture
def events():
    """An open event stream."""
    with contextlib.closing(StreamCase("ipv4", EVENTS)) as case:
        yield case


# What goes on


def test_an_idle_stream_goes_on_without_a_question_to_the_kernel(stream, monkeypatch):
    monkeypatch.setattr(custody, "facts_of", None)
    before = list(stream.slot)
    assert stream.die() == (Action.IDLE, b"")
    assert list(stream.slot) == before
    assert stream.page.head == HANDSHAKE
    assert (stream.custody.counts.resumed, stream.custody.counts.known()) == (1, {})


def test_half_a_message_is_handed_on_until_a_worker_is_done_with_it(stream):
    stream.receive(MESSAGE[:5])
    assert stream.die() == (Action.REPLAY, MESSAGE[:5])
    places = (BASE, WRITTEN, FINAL_END, FLAGS, ATTEMPT, BUFFER, GIVEN)
    assert [stream.slot[place] for place in places] == [stream.done, 5 | OPEN, 0, 0, 0, 0, 0]
    assert stream.custody.recover(2, stream.buffers) == (Action.REPLAY, MESSAGE[:5])
    stream.slot[BASE] = stream.slot[READ]
    assert stream.custody.recover(2, stream.buffers) == (Action.IDLE, b"")
    assert stream.custody.counts.resumed == 3
    assert not stream.custody.counts.known()


def test_what_the_client_sent_and_nobody_read_waits_in_the_kernel(stream):
    stream.client.sendall(MESSAGE)
    assert stream.die() == (Action.IDLE, b"")
    with socket.socket(fileno=os.dup(stream.number)) as heir:
        assert heir.recv(100) == MESSAGE


def test_a_message_that_may_be_given_again_is_handed_on_once(stream):
    stream.receive(given=1 | REDELIVER)
    assert stream.die() == (Action.REPLAY, MESSAGE)
    assert stream.slot[ATTEMPT] == CALLED_BEFORE
    assert stream.slot[GIVEN] == 0
    stream.slot[ORIGIN], stream.slot[BUFFER] = stream.done, 1
    stream.buffers[: len(MESSAGE)] = MESSAGE
    stream.slot[GIVEN] = stream.slot[READ] | REDELIVER
    assert stream.custody.recover(2, stream.buffers) == (Action.RESTART, b"")


def test_a_frame_that_is_out_and_was_not_stored_as_written_is_not_forgotten(stream):
    stream.send(b"frame")
    assert stream.die() == (Action.IDLE, b"")
    assert (stream.slot[WRITTEN], stream.slot[FINAL_END]) == (10 | OPEN, 0)


# What ends


def test_a_message_in_the_application_is_1012_on_the_wire_and_the_end(stream, caplog):
    stream.receive(given=1)
    assert stream.die() == (Action.RESTART, b"")
    assert stream.client.recv(100) == CLOSE_1012
    assert stream.client.recv(100) == b""
    stream.client.close()
    stream.go_until(lambda: not stream.custody.lingering)
    assert_closed(stream.number)
    assert stream.custody.counts.known() == {Action.RESTART: 1}
    assert (
        "told to connect again: its worker died during a stream, with a message in the application: GET /ws, "
        in caplog.text
    )


def test_a_close_frame_arrives_though_the_client_goes_on_sending(stream):
    """A close(2) with unread bytes would be a reset, in which the frame could get lost."""
    stream.receive(given=1)
    stream.client.sendall(MESSAGE * 100)
    stream.die()
    stream.client.sendall(MESSAGE * 100)
    assert stream.client.recv(100) == CLOSE_1012
    assert stream.client.recv(100) == b""


def test_a_frame_that_is_partly_out_is_reset(tmp_path, caplog):
    with contextlib.closing(StreamCase("ipv4")) as case:
        case.send(b"frame", 3)
        assert case.die() == (Action.RESET, b"")
        assert case.client.recv(3) == b"fra"
        with pytest.raises(ConnectionResetError):
            case.client.recv(1)
        assert_closed(case.number)
    assert "cut: its worker died in the middle of a message: GET /ws, client" in caplog.text


def test_an_event_stream_that_cannot_go_on_is_reset_and_counted_as_such(events, caplog):
    """Its client connects again by itself; a close frame would be a part of an event."""
    events.slot[ATTEMPT] = 3
    assert events.die() == (Action.RESET, b"")
    with pytest.raises(OSError) as found:
        events.client.recv(100)
    assert found.value.errno == errno.ECONNRESET
    assert events.custody.counts.known() == {Action.RESET: 1}
    assert (
        "cut: its worker died during a stream, with which its last 3 workers have died: GET /ws, client"
        in caplog.text
    )


def test_a_part_of_an_event_is_reset(events):
    events.slot[FINAL_END] = UNFINISHED | OPEN
    events.write(b"data: 1")
    assert events.die() == (Action.RESET, b"")


def test_the_end_of_an_event_stream_leaves_an_idle_connection_without_a_page(events):
    events.slot[FINAL_BASE], events.slot[FINAL_END] = events.done, 10
    events.write(b"0\r\n\r\n")
    assert events.die() == (Action.IDLE, b"")
    assert events.slot[WRITTEN] == 10
    assert events.page == NO_PAGE
    assert (events.custody.counts.resumed, events.custody.counts.known()) == (0, {Action.IDLE: 1})


# A slow client


def test_the_rest_of_a_frame_is_left_to_the_next_worker(stream):
    stream.send(b"frame", 2)
    pages.keep_backlog(stream.custody._pages, 2, 7, b"ame")
    stream.slot[ATTEMPT] = 1
    assert stream.die() == (Action.IDLE, b"")
    places = (WRITTEN, FINAL_END, FINAL_BASE, WROTE, ATTEMPT)
    assert [stream.slot[place] for place in places] == [10 | OPEN, 10 | OPEN, stream.done, 7, 1]
    assert pages.backlog(stream.custody._pages, 2, stream.slot[WROTE]) == (b"ame", 10)
    assert stream.custody.recover(2, stream.buffers) == (Action.IDLE, b"")  # the next worker has done nothing
    assert [stream.slot[place] for place in places] == [10 | OPEN, 10 | OPEN, stream.done, 7, 1]
    with socket.socket(fileno=os.dup(stream.number)) as heir:
        heir.sendall(b"am")
    stream.slot[WROTE] = 9
    assert stream.custody.recover(2, stream.buffers) == (Action.IDLE, b"")
    assert stream.slot[WROTE] == 9


@pytest.mark.parametrize(("start", "rest"), [(8, b"me"), (7, b"am"), (7, b"am!!"), (6, b"rame")])
def test_a_backlog_that_is_not_the_rest_of_the_frame_is_not_used(stream, start, rest):
    stream.send(b"frame", 2)
    pages.keep_backlog(stream.custody._pages, 2, start, rest)
    action, _ = stream.die()
    assert action is (Action.IDLE if (start, rest) == (6, b"rame") else Action.RESET)


def test_a_message_in_the_application_of_a_slow_client_is_a_reset(stream):
    """A close frame would be taken for the rest of the frame."""
    stream.receive(given=1)
    stream.send(b"frame", 2)
    pages.keep_backlog(stream.custody._pages, 2, 7, b"ame")
    assert stream.die() == (Action.RESET, b"")


def test_a_slow_client_for_whom_no_worker_is_left_gets_no_frame_within_a_frame(stream):
    stream.send(b"frame", 2)
    pages.keep_backlog(stream.custody._pages, 2, 7, b"ame")
    stream.die()
    stream.custody.give_up(2, b"")
    assert stream.client.recv(2) == b"fr"
    with contextlib.suppress(ConnectionResetError):
        assert stream.client.recv(100) == b""


# Living workers


def test_a_stream_that_is_given_back_keeps_its_slot_and_its_page(stream):
    before = list(stream.slot)
    stream.custody.take_back(2, b"")
    assert list(stream.slot) == before
    assert stream.page.head == HANDSHAKE
    assert (stream.custody.counts.resumed, stream.custody.counts.known()) == (1, {})


def test_a_stream_that_is_given_back_with_half_a_message_hands_it_on(stream):
    stream.receive(MESSAGE[:5])
    stream.custody.take_back(2, MESSAGE[:5])
    assert (stream.slot[BUFFER], stream.slot[BASE], stream.slot[WRITTEN]) == (0, stream.done, 5 | OPEN)
    assert stream.die() == (Action.REPLAY, MESSAGE[:5])


@pytest.mark.parametrize("before", [0, CALLED_BEFORE])
def test_a_worker_that_gives_a_stream_back_did_not_die_of_it(stream, before):
    stream.slot[ATTEMPT] = before + 3
    stream.custody.take_back(2, b"")
    assert stream.slot[ATTEMPT] == before


@pytest.mark.parametrize("bit", [0, REDELIVER])
def test_a_worker_cannot_give_back_a_stream_with_a_message_in_its_application(stream, bit):
    stream.receive(given=1 | bit)
    with pytest.raises(ProtocolError, match="its application still has a message"):
        stream.custody.take_back(2, MESSAGE)


def test_a_stream_whose_backlog_was_not_sent_is_given_back_with_the_rest(stream):
    """As by a worker without a free descriptor, or one that retires before it has called the application."""
    stream.send(b"frame", 2)
    pages.keep_backlog(stream.custody._pages, 2, 7, b"ame")
    stream.die()
    with socket.socket(fileno=os.dup(stream.number)) as heir:
        heir.sendall(b"a")
    stream.slot[WROTE] = 8 if stream.unix else 7
    stream.custody.take_back(2, b"")
    assert [stream.slot[place] for place in (WRITTEN, FINAL_END, WROTE)] == [10 | OPEN, 10 | OPEN, 8]
    assert pages.backlog(stream.custody._pages, 2, 8) == (b"me", 10)
    with socket.socket(fileno=os.dup(stream.number)) as heir:
        heir.sendall(b"me")
    stream.slot[WROTE] = 10
    stream.custody.take_back(2, b"")
    assert [stream.slot[place] for place in (WRITTEN, FINAL_END)] == [10 | OPEN, 0]


def test_a_worker_cannot_give_back_a_stream_in_the_middle_of_a_message(stream):
    stream.send(b"frame", 2)
    with pytest.raises(ProtocolError, match="in the middle of a message"):
        stream.custody.take_back(2, b"")


# No worker is left


def test_a_websocket_for_which_no_worker_is_left_is_told_to_connect_again(stream):
    stream.die()
    stream.custody.give_up(2, b"")
    assert stream.client.recv(100) == CLOSE_1012
    assert stream.client.recv(100) == b""


def test_an_event_stream_for_which_no_worker_is_left_is_reset(events):
    events.die()
    events.custody.give_up(2, b"")
    with pytest.raises(ConnectionResetError):
        events.client.recv(100)


# The page


@pytest.mark.parametrize("how", ["end", "shut_down", "give_up", "restart", "reset"])
def test_a_connection_that_ends_leaves_no_page_to_the_next_one_of_its_slot(stream, how):
    """Whoever ends it, and whether or not its worker lived to do so."""
    if how == "restart":
        stream.receive(given=1)
        assert stream.die() == (Action.RESTART, b"")
    elif how == "reset":
        stream.send(b"frame", 3)
        assert stream.die() == (Action.RESET, b"")
    elif how == "give_up":
        stream.custody.give_up(2, b"")
    else:
        getattr(stream.custody, how)([2])
    assert stream.allocated == 0
    stream.custody.keep(2, os.dup(stream.client.fileno()))
    assert stream.page == NO_PAGE


def test_a_connection_that_ends_before_its_stream_is_open_leaves_no_page(stream):
    stream.slot[WRITTEN], stream.slot[FINAL_END] = 0, 5 | OPEN
    stream.custody.end([2])
    assert stream.allocated == 0


def test_a_worker_that_dies_between_page_and_slot_leaves_no_page(stream):
    """The request is repeated: the next worker may answer it otherwise."""
    stream.slot[BASE], stream.slot[WRITTEN] = 0, 5
    stream.slot[BUFFER], stream.slot[FLAGS] = 1, Flag.CALLED | Flag.SAFE | Flag.IDEMPOTENT
    stream.buffers[: len(HANDSHAKE)] = HANDSHAKE
    assert stream.die() == (Action.REPLAY, HANDSHAKE)
    assert stream.allocated == 0


def test_connections_without_a_stream_do_not_touch_the_pages(case):
    case.client.sendall(b"GET")
    case.slot[BUFFER] = 1
    case.read(3)
    assert case.die() == (Action.REPLAY, b"GET")
    case.custody.end([2])
    assert os.fstat(case.custody.pages.fileno()).st_blocks == 0


def test_an_open_stream_without_a_page_is_reset_and_nothing_of_another_is_named(stream, caplog):
    """Its worker lied; what the page had of an earlier connection of the slot is forgotten."""
    pages.forget(stream.custody._pages, 2)
    stream.receive(given=1)
    assert stream.die() == (Action.RESET, b"")
    assert "GET" not in caplog.text


def test_nonsense_in_a_page_ends_that_stream_and_not_the_dispatcher(stream):
    stream.custody._pages[2 * pages.PAGE_SIZE : 3 * pages.PAGE_SIZE] = b"\xff" * pages.PAGE_SIZE
    stream.receive(given=1)
    stream.send(b"frame", 3)
    assert stream.die() == (Action.RESET, b"")


# Counts


def test_what_became_of_streams_is_counted_apart(stream):
    before = stream.custody.counts.in_words()
    stream.custody.take_back(2, b"")
    assert stream.custody.counts.in_words() - before == {"resumed": 1}
    stream.receive(given=1)
    stream.die()
    assert stream.custody.counts.in_words() - before == {"resumed": 1, "told to connect again": 1}
