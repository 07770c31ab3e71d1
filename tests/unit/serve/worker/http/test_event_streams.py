"""Event streams in custody: what their slot says after each part, and how the next worker goes on."""

import asyncio
import dataclasses
import os

import pytest

from fdpass.serve.shared import pages
from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    FINAL_END,
    FLAGS,
    OPEN,
    POSITION,
    READ,
    UNFINISHED,
    WRITTEN,
    WROTE,
    slot_of,
)
from fdpass.serve.worker.custody.state import load_state, store_state

from ._apps import Call, Echo, Steps, length, part, start
from ._client import turns

pytestmark = pytest.mark.parametrize("fresh", ["custody"], indirect=True)
KIND = (b"content-type", b"text/event-stream")
GET = b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"


class Listening(Steps):
    """`Steps` whose calls end by themselves when the client, or the worker's time, is over."""

    async def __call__(self, scope, receive, send):
        call = Call(scope, receive, send)
        self._calls.put_nowait(call)
        listening = asyncio.create_task(self._listen(call))
        try:
            return await call.done
        finally:
            listening.cancel()

    async def _listen(self, call):
        while (await call.receive())["type"] != "http.disconnect":
            pass
        call.end()


class Stream:
    """A stream that the test sends, and its client."""

    def __init__(self, fresh, app, client, call):
        self.fresh, self.app, self.client, self.call = fresh, app, client, call
        self.slot = next(iter(fresh.server.open)).slot

    @classmethod
    async def open(cls, fresh, *parts, request=GET, fields=(KIND,)):
        """Start a server, ask for a stream, and send its head with the first part."""
        app = Listening()
        await fresh.start(resume=("/events",))
        client = await fresh(app)
        await client.send(request)
        stream = cls(fresh, app, client, await app.next())
        await stream.send(start(200, *fields), *(part(each, more=True) for each in parts))
        return stream

    async def send(self, *messages):
        for message in messages:
            await self.call.send(message)

    async def event(self, *data):
        """Send parts of the body, and read them at the client."""
        for each in data:
            await self.send(part(each, more=True))
            assert await self.client.until(b"\r\n") == b"%x" % len(each)
            assert await self.client.exactly(len(each) + 2) == each + b"\r\n"

    @property
    def words(self):
        return slot_of(self.fresh.server._slots, self.slot)

    @property
    def page(self):
        return pages.load(self.fresh.server._pages, self.slot)

    @property
    def is_open(self):
        return bool(self.words[WRITTEN] & OPEN)

    def settled(self, state):
        """Whether another worker could go on now, with this state."""
        words = self.words
        assert words[WRITTEN] & POSITION == words[FINAL_END] & POSITION or not words[FINAL_END]
        return self.is_open and not words[FINAL_END] and load_state(words) == state

    async def move(self):
        """Let the worker retire, and the next one continue the stream; returns the application's new call."""
        server = self.fresh.server
        await server.retire(0.2)
        (passed,) = server.returned
        server.returned.clear()
        await server.restart()
        server.take_again(passed)
        self.call = await self.app.next()
        return self.call


async def test_the_slot_of_an_open_stream_is_that_of_an_idle_connection(fresh):
    stream = await Stream.open(fresh, b"id: 1\ndata: x\n\n")
    words = stream.words
    assert stream.settled(b"1")
    assert (words[BASE], words[READ], words[FLAGS], words[BUFFER], words[ATTEMPT]) == (len(GET), len(GET), 0, 0, 0)
    assert stream.page._replace(opened=0) == pages.Page(pages.EVENTS, 0, GET, b"text/event-stream")
    assert stream.call.scope["extensions"]["fdpass"]["resumed"] == 0
    answered = await stream.client.until(b"\r\n\r\n")
    assert words[WRITTEN] & POSITION == len(answered) + 4 + len(b"f\r\nid: 1\ndata: x\n\n\r\n")
    stream.call.end()


async def test_parts_of_events_are_told_from_whole_events(fresh):
    stream = await Stream.open(fresh)
    await turns()
    await asyncio.sleep(0.1)  # the head goes out alone
    await stream.client.until(b"\r\n\r\n")
    assert stream.settled(b"")
    await stream.event(b"id: 1\nda")
    assert stream.words[FINAL_END] == UNFINISHED | OPEN
    await stream.event(b"ta: x\n\n")
    assert stream.settled(b"1")
    await stream.event(b": ping\n\n", b"id: 2\r\ndata: x\r\n\r\n", b"data: as before\n\n")
    assert stream.settled(b"2")
    await stream.event(b"id\ndata: the id is reset\n\n")
    assert stream.words[FINAL_END] == UNFINISHED | OPEN
    await stream.event(b"id: 3\ndata: x\n\n")
    assert stream.settled(b"3")
    await stream.event(b"id: " + b"4" * 64 + b"\n\n")
    assert stream.settled(b"4" * 64)
    await stream.event(b"id: " + b"5" * 65 + b"\n\n")
    assert stream.words[FINAL_END] == UNFINISHED | OPEN
    stream.call.end()


async def test_a_stream_that_begins_with_a_part_of_an_event_is_a_request_until_the_event_is_whole(fresh):
    stream = await Stream.open(fresh, b"id: 1\n")
    words = stream.words
    assert (stream.is_open, words[FINAL_END], words[BASE]) == (False, UNFINISHED | OPEN, 0)
    assert words[BUFFER]
    assert words[FLAGS]
    await stream.send(part(b"data: x\n\n", more=True))
    assert stream.settled(b"1")
    assert (words[FLAGS], words[BUFFER], words[BASE]) == (0, 0, len(GET))
    stream.call.end()


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", [KIND]),
        (b"GET http://x/events HTTP/1.1\r\nHost: x\r\n\r\n", [KIND]),
        (b"POST /events HTTP/1.1\r\nHost: x\r\n\r\n", [KIND]),
        (b"GET /events HTTP/1.0\r\nHost: x\r\n\r\n", [KIND]),
        (b"GET /events HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", [KIND]),
        (b"GET /events HTTP/1.1\r\nHost: x\r\nA: %b\r\n\r\n" % (b"a" * 8192), [KIND]),
        (GET + b"GET /other HTTP/1.1\r\n", [KIND]),
        (GET, [(b"content-type", b"text/plain")]),
        (GET, [KIND, length(1000)]),
        (GET, [KIND, (b"content-encoding", b"gzip")]),
    ],
)
async def test_any_other_response_is_as_it_was(fresh, request_, fields):
    stream = await Stream.open(fresh, b"id: 1\n\n", b"id: 2\n\n", request=request_, fields=fields)
    assert (stream.is_open, stream.words[FINAL_END], stream.page.kind) == (False, 0, 0)
    stream.call.end()


async def test_the_next_worker_asks_for_the_rest_and_the_client_sees_one_response(fresh):
    request = b"GET /events?a HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 7\r\n\r\n"
    stream = await Stream.open(fresh, request=request)
    first = stream.call
    await stream.client.until(b"\r\n\r\n")
    for number, expected in ((1, b"7"), (2, b"8"), (3, b"9")):
        call = await stream.move()
        assert (call.scope["path"], call.scope["query_string"]) == ("/events", b"a")
        assert [value for name, value in call.scope["headers"] if name == b"last-event-id"] == [expected]
        about = call.scope["extensions"]["fdpass"]
        assert 0 < about.pop("age") < 100
        assert about == {"attempt": 0, "slot": stream.slot, "resumed": number, "moved": False}
        assert stream.words[ATTEMPT] == 1
        await stream.send(start(200, KIND, (b"x-other", b"%d" % number)))
        await stream.event(b"id: %d\ndata: x\n\n" % (number + 7))
        assert stream.settled(b"%d" % (number + 7))
        assert stream.words[ATTEMPT] == 0
    await stream.send(part(b"data: last\n\n"))
    assert await stream.client.exactly(22) == b"c\r\ndata: last\n\n\r\n0\r\n\r\n"
    assert (stream.is_open, stream.words[FINAL_END], stream.page.kind) == (False, 0, 0)
    fresh.server.switch.app = Echo()
    assert (await stream.client.get()).body == b"ok"
    assert first.done.done()
    stream.call.end()
    assert fresh.lines == []


async def test_what_the_old_application_sends_goes_nowhere(fresh):
    """It sends in the moment of the hand-back, and afterwards."""
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.client.until(b"1\n\n\r\n")
    old, protocol = stream.call, next(iter(fresh.server.engine.connections))
    protocol.move()
    before = stream.words.tobytes()
    await old.send(part(b"id: 2\n\n", more=True))
    assert stream.words.tobytes() == before
    call = await stream.move()
    assert dict(call.scope["headers"])[b"last-event-id"] == b"1"
    await old.send(part(b"id: 3\n\n", more=True))
    await old.send(part(b"id: 4\n\n"))
    assert old.done.done()
    await stream.send(start(200, KIND))
    await stream.event(b"id: 2\n\n")


async def test_a_stream_that_cannot_move_is_cut_when_the_time_is_over(fresh):
    stream = await Stream.open(fresh, b"id: 1\n\nda")
    retiring = fresh.task(fresh.server.retire(0.2))
    assert await stream.client.is_cut()
    await retiring
    assert fresh.server.returned == []
    (line,) = fresh.lines
    assert "cut after 0.2 s of graceful time (--graceful-timeout): GET /events" in line


async def test_a_stream_moves_in_the_last_second_if_its_event_is_whole_by_then(fresh):
    stream = await Stream.open(fresh, b"id: 1\n\nda")
    retiring = fresh.task(fresh.server.retire(0.2))
    await asyncio.sleep(0.5)
    await stream.send(part(b"ta: x\n\n", more=True))
    await retiring
    assert len(fresh.server.returned) == 1
    assert fresh.lines == []


async def test_a_stream_that_ends_while_its_worker_retires_leaves_its_connection_idle(fresh):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    retiring = fresh.task(fresh.server.retire(30.0))
    await fresh.server.told.wait()
    await stream.send(part(b"id: 2\n\n", more=True), part())
    stream.call.end()
    await retiring
    (passed,) = fresh.server.returned
    assert not stream.is_open
    assert (await stream.client.answer()).body == b"id: 1\n\nid: 2\n\n"
    fresh.server.returned.clear()
    await fresh.server.restart()
    fresh.server.switch.app = Echo()
    fresh.server.take_again(passed)
    assert (await stream.client.get()).body == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        [start(401, length(0)), part()],
        [start(200, (b"content-type", b"text/plain")), part(b"x", more=True)],
        [start(200, KIND, length(1000)), part(b"x", more=True)],
        [start(204), part()],
        [start(500, length(1)), part(b"x")],
    ],
)
async def test_a_client_is_reset_if_the_application_answers_otherwise(fresh, answer):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.move()
    await stream.send(*answer)
    out, end = await stream.client.out()
    assert (out.count(b"HTTP/1.1"), end) == (1, "reset")
    (line,) = fresh.lines
    assert f"does not continue its event stream, but answers {answer[0]['status']}: GET /events" in line
    stream.call.end()


@pytest.mark.parametrize("error", [None, RuntimeError("it fails")])
async def test_a_client_is_reset_if_the_application_does_not_answer(fresh, error):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.move()
    if error:
        stream.call.fail(error)
    else:
        stream.call.end()
    assert (await stream.client.out())[1] == "reset"
    assert any("does not continue its event stream, but answers 500: GET /events" in line for line in fresh.lines)


async def test_the_whole_rest_can_come_at_once(fresh):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.client.until(b"1\n\n\r\n")
    await stream.move()
    await stream.send({"type": "http.response.early_hint", "links": [b"</a>"]})
    await stream.send(start(200, KIND), part(b"id: 2\n\n"))
    assert await stream.client.exactly(17) == b"7\r\nid: 2\n\n\r\n0\r\n\r\n"
    stream.call.end()
    fresh.server.switch.app = Echo()
    assert (await stream.client.get()).body == b"ok"


async def test_a_request_behind_the_stream_is_served_behind_it(fresh):
    """Also by the next worker, if the stream's one dies; but a living worker keeps the stream."""
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.client.until(b"1\n\n\r\n")
    await stream.client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
    await turns()
    assert stream.words[BUFFER]
    assert stream.words[READ] > stream.words[BASE]
    await stream.event(b"id: 2\n\n")
    (protocol,) = fresh.server.engine.connections
    assert not protocol.wire.move()
    await stream.send(part())
    assert await stream.client.exactly(5) == b"0\r\n\r\n"
    stream.call.end()
    call = await stream.app.next()
    assert call.scope["path"] == "/plain"
    await call.answer()
    assert (await stream.client.answer()).body == b"ok"


async def test_the_next_worker_gets_a_request_behind_the_stream(fresh):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.client.until(b"1\n\n\r\n")
    server = fresh.server
    await server.retire(0.2)
    (passed,) = server.returned
    server.returned.clear()
    await server.restart()
    passed.read = (
        b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"  # as the dispatcher finds them in a dead worker's buffer
    )
    server.take_again(passed)
    stream.call = await stream.app.next()
    await stream.send(start(200, KIND), part(b"id: 2\n\n"))
    assert await stream.client.exactly(17) == b"7\r\nid: 2\n\n\r\n0\r\n\r\n"
    stream.call.end()
    call = await stream.app.next()
    assert call.scope["path"] == "/plain"
    await call.answer()
    assert (await stream.client.answer()).body == b"ok"


async def test_the_end_of_the_client_is_told(fresh):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.client.until(b"1\n\n\r\n")
    await stream.client.end()
    (protocol,) = fresh.server.engine.connections
    await stream.call.done
    assert stream.words[BUFFER] == 0
    assert not protocol.wire.move()
    assert await stream.client.ended()


async def test_a_slow_client_keeps_its_stream_from_moving_until_it_reads(fresh):
    app = Listening()
    await fresh.start(resume=("/events",))
    client = await fresh(app, room=4096)
    await client.send(GET)
    stream = Stream(fresh, app, client, await app.next())
    await stream.send(start(200, KIND), part(b"id: 1\ndata: %b\n\n" % bytes(25_000), more=True))
    assert stream.words[FINAL_END] & OPEN
    assert not stream.is_open
    await stream.send(part(b"id: 2\n\n", more=True))
    (protocol,) = fresh.server.engine.connections
    assert not protocol.wire.move()
    await client.until(b"id: 2\n\n\r\n")
    await turns()
    assert stream.settled(b"2")
    assert protocol.wire.move()
    stream.call.end()


async def test_a_file_as_the_rest_of_a_stream(fresh, tmp_path):
    """Its events are not looked at: the stream is a response in progress until its end."""
    file = tmp_path / "file"
    file.write_bytes(b"id: 2\n\n")
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.send({"type": "http.response.pathsend", "path": str(file)})
    assert (await stream.client.answer()).body == b"id: 1\n\nid: 2\n\n"
    assert (stream.is_open, stream.page.kind) == (False, 0)
    stream.call.end()
    fresh.server.switch.app = Echo()
    assert (await stream.client.get()).body == b"ok"


async def test_streams_of_one_connection_one_after_the_other(fresh):
    """The state of the first is not that of the second."""
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.send(part())
    stream.call.end()
    await stream.client.answer()
    await stream.client.send(GET)
    stream.call = await stream.app.next()
    await stream.send(start(200, KIND), part(b": ping\n\n", more=True))
    assert stream.settled(b"")
    await stream.client.until(b"ping\n\n\r\n")
    call = await stream.move()
    assert b"last-event-id" not in dict(call.scope["headers"])
    call.end()


async def test_a_setting_that_names_the_path_no_more_resets_the_client(fresh):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await fresh.server.retire(0.2)
    (passed,) = fresh.server.returned
    fresh.server.returned.clear()
    await fresh.server.restart()
    streams = fresh.server.engine._custody._event_streams
    streams._memory = dataclasses.replace(streams._memory, prefixes=("/other",))
    fresh.server.take_again(passed)
    assert (await stream.client.out())[1] == "reset"
    stream.call.end()
    (line,) = fresh.lines
    assert "an event stream that --resume does not name any more: GET /events" in line


async def test_the_backlog_of_a_slow_client_is_in_the_page(fresh):
    """If it is not too long, and ends with an event: so the dispatcher hands the stream on all the same."""
    app = Listening()
    await fresh.start(resume=("/events",))
    client = await fresh(app, room=4096)
    await client.send(GET)
    stream = Stream(fresh, app, client, await app.next())
    await stream.send(start(200, KIND), part(b"id: 1\ndata: %b\n\n" % bytes(25_000), more=True))
    (protocol,) = fresh.server.engine.connections
    wire, words, memory = protocol.wire, stream.words, fresh.server._pages

    def kept():
        start = wire._wrote - len(wire._backlog)
        return pages.backlog(memory, stream.slot, start) == (wire._backlog, words[FINAL_END] & POSITION)

    assert kept()
    assert not stream.is_open
    await stream.send(part(b"id: 2\n\n", more=True))
    assert kept()
    assert wire._backlog.endswith(b"id: 2\n\n\r\n")
    await stream.send(part(b"id: 3\n", more=True))
    assert words[FINAL_END] == UNFINISHED | OPEN
    assert not pages.backlog(memory, stream.slot, wire._wrote - 1)[1]
    await stream.send(part(b"\n", more=True))
    assert kept()
    await client.until(b"id: 3\n\r\n1\r\n\n\r\n")
    await turns()
    assert stream.settled(b"3")
    assert not pages.backlog(memory, stream.slot, wire._wrote - 1)[1]
    stream.call.end()


@pytest.mark.parametrize("gives_back", [False, True])
async def test_the_next_worker_sends_the_backlog_first(fresh, gives_back):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    await stream.client.until(b"1\n\n\r\n")
    server, words = fresh.server, stream.words
    await server.retire(0.2)
    (passed,) = server.returned
    server.returned.clear()
    server._custody.take_back(passed.slot, b"")
    unsent = b"7\r\nid: 2\n\n\r\n"  # as the dispatcher hands it on from a dead worker
    words[WROTE] = words[WRITTEN] & POSITION
    pages.keep_backlog(server._pages, passed.slot, words[WROTE], unsent)
    words[WRITTEN] = words[FINAL_END] = words[WROTE] + len(unsent) | OPEN | store_state(words, b"2")
    await server.restart()
    server._hand(os.dup(server._custody.fd(passed.slot)), passed.slot)
    if gives_back:
        server.engine._custody._event_streams.retire()
        assert (await stream.client.out())[1] == "reset"
        return
    stream.call = await stream.app.next()
    assert dict(stream.call.scope["headers"])[b"last-event-id"] == b"2"
    await stream.send(start(200, KIND), part(b"id: 3\n\n", more=True))
    assert await stream.client.exactly(24) == unsent + b"7\r\nid: 3\n\n\r\n"
    await turns()
    assert stream.settled(b"3")
    stream.call.end()


async def test_a_library_that_hooks_into_uvicorn_learns_of_the_end_when_the_streams_have_moved(fresh, monkeypatch):
    """Else sse-starlette would end them; without --resume it learns at once."""
    stream = await Stream.open(fresh, b"id: 1\n\n")
    (protocol,) = fresh.server.engine.connections
    seen = []
    monkeypatch.setattr("uvicorn.Server.handle_exit", lambda *_: seen.append(protocol.wire.passed.returned))
    await fresh.server.retire(0.2)
    assert seen == [True]
    assert len(fresh.server.returned) == 1
    assert stream.call.done.done()


async def test_a_stop_tells_libraries_at_once_and_ends_streams(fresh, monkeypatch):
    stream = await Stream.open(fresh, b"id: 1\n\n")
    (protocol,) = fresh.server.engine.connections
    seen = []
    monkeypatch.setattr("uvicorn.Server.handle_exit", lambda *_: seen.append(protocol.wire.is_closing()))
    await fresh.server.end()
    assert seen == [False]
    assert fresh.server.returned == []
    assert await stream.client.is_cut()
    assert "cut after 0 s of graceful time" in fresh.lines[0]


async def test_a_stream_moves_though_its_application_has_changed_the_scope(fresh):
    """The application knows by what it was told at first that the stream goes on."""
    stream = await Stream.open(fresh, b"id: 1\ndata: x\n\n")
    about = stream.call.scope.pop("extensions")["fdpass"]
    assert not about["moved"]
    again = await stream.move()
    assert (about["moved"], again.scope["extensions"]["fdpass"]["resumed"]) == (True, 1)
    again.end()
