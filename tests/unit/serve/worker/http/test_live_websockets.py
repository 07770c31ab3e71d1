"""Open WebSockets in a worker: what the slot says of them, when they move, and how the next worker goes on."""

import asyncio

import pytest
import uvicorn.config

from fdpass.serve.shared.slots import (
    ATTEMPT,
    BASE,
    BUFFER,
    CALLED_BEFORE,
    FINAL_END,
    FLAGS,
    GIVEN,
    OPEN,
    POSITION,
    READ,
    REDELIVER,
    WRITTEN,
    Flag,
    slot_of,
)
from fdpass.serve.worker.custody.state import load_state

from ._client import turns
from .test_upgrades import HANDSHAKE, frame, opened, reply

pytest.importorskip("websockets")
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:websockets\..* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated"),
]
CLASSES = ("websockets", "websockets-sansio", "wsproto")
SIZE = len(HANDSHAKE)


@pytest.fixture(autouse=True)
def _custody_only(request):
    kind = request.getfixturevalue("fresh").kind
    if kind != "custody":
        pytest.skip("only in custody")


@pytest.fixture
def each_class(monkeypatch, name):
    """uvicorn takes the class with this name."""
    if name == "wsproto":
        pytest.importorskip("wsproto")
    monkeypatch.setitem(uvicorn.config.WS_PROTOCOLS, "auto", uvicorn.config.WS_PROTOCOLS[name])


class Words:
    """The words of a slot. It keeps no view of the memory, which the server closes."""

    def __init__(self, server):
        self._server = server
        (passed,) = server.open
        self._slot = passed.slot

    def __getitem__(self, word):
        return slot_of(self._server._slots, self._slot)[word]

    def __setitem__(self, word, value):
        slot_of(self._server._slots, self._slot)[word] = value

    @property
    def state(self):
        return load_state(slot_of(self._server._slots, self._slot))


class Script:
    """An application whose steps the test makes.

    Attributes:
        calls: A queue of calls, each with scope, receive and send.
    """

    def __init__(self, *, accepts=True):
        self.calls = asyncio.Queue()
        self.accepts = accepts

    async def __call__(self, scope, receive, send):
        call = Call(scope, receive, send)
        assert (await receive())["type"] == "websocket.connect"
        if self.accepts:
            await send({"type": "websocket.accept"})
        self.calls.put_nowait(call)
        await call.over.wait()

    async def next(self):
        return await self.calls.get()


class Call:
    def __init__(self, scope, receive, send):
        self.scope, self.receive, self._send = scope, receive, send
        self.over = asyncio.Event()
        self.asked = None

    @property
    def about(self):
        return self.scope["extensions"]["fdpass"]

    @property
    def resume(self):
        return self.about["resume"]

    async def text(self):
        message = await self.receive()
        assert message["type"] == "websocket.receive", message
        return message["text"]

    def ask(self):
        """Ask for the next message, in a task."""
        self.asked = asyncio.ensure_future(self.receive())

    async def send(self, text):
        await self._send({"type": "websocket.send", "text": text})


async def start(fresh, **settings):
    """Start a server; returns its application."""
    app = Script()
    await fresh.start(resume=("/ws",), **settings)
    return app


async def begin(fresh, app):
    """Open a WebSocket; returns the client, the application's call, and the slot."""
    client = await fresh(app)
    await client.send(HANDSHAKE)
    await opened(client)
    call = await app.next()
    await turns(5)
    return client, call, Words(fresh.server)


async def moved(fresh, call=None):
    """Let the server retire, and hand its only connection to the next worker."""
    retiring = fresh.task(fresh.server.retire())
    while not fresh.server.returned:
        await asyncio.sleep(0.01)
    if call is not None:
        call.over.set()
    await retiring
    (passed,) = fresh.server.returned
    fresh.server.returned.clear()
    await fresh.server.restart()
    fresh.server.take_again(passed)


def positions(words):
    """BASE, GIVEN and WRITTEN, without bits; and whether anything is announced."""
    return words[BASE] - SIZE, max(words[GIVEN] & POSITION, SIZE) - SIZE, words[FINAL_END]


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.usefixtures("each_class")
async def test_the_slot_says_what_was_given_and_what_is_done_with(fresh, name):
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    assert (words[BASE], words[FLAGS], words[BUFFER], words[FINAL_END]) == (SIZE, 0, 0, 0)
    assert words[WRITTEN] & OPEN
    head = words[WRITTEN] & POSITION
    one, two = frame(b"one"), frame(b"two!")
    await client.send(one + two)
    while words[READ] < SIZE + len(one + two):
        await asyncio.sleep(0)
    assert positions(words) == (0, 0, 0)
    assert await call.text() == "one"
    assert positions(words) == (0, len(one), 0)
    await call.send("answer")
    assert (positions(words), words[WRITTEN] & POSITION) == ((0, len(one), 0), head + 8)
    assert await call.text() == "two!"
    assert positions(words) == (len(one), len(one + two), 0)
    assert words[BUFFER]
    call.ask()
    await turns(5)
    assert positions(words) == (len(one + two), len(one + two), 0)
    assert words[BUFFER] == 0
    assert await client.exactly(8) == reply(b"answer")
    call.over.set()


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.usefixtures("each_class")
async def test_it_moves_with_what_was_not_given_and_half_a_frame(fresh, name):
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    one, two, three = frame(b"one"), frame(b"two"), frame(b"three")
    await client.send(one + two + three[:4])
    assert await call.text() == "one"
    while words[READ] < SIZE + len(one + two) + 4:
        await asyncio.sleep(0)
    call.resume.commit()
    await moved(fresh, call)
    again = await app.next()
    assert (again.about["resumed"], again.about["attempt"], again.resume.attempt) == (1, 0, 0)
    await client.send(three[4:])
    assert [await again.text() for _ in range(2)] == ["two", "three"]
    await again.send("on")
    assert await client.exactly(4) == reply(b"on")
    again.over.set()


async def test_the_old_application_gets_1012_and_its_sends_raise(fresh):
    app = await start(fresh)
    _, call, _ = await begin(fresh, app)
    call.ask()
    retiring = fresh.task(fresh.server.retire())
    message = await call.asked
    assert (message["type"], message["code"]) == ("websocket.disconnect", 1012)
    with pytest.raises(OSError):
        await call.send("to nobody")
    with pytest.raises(OSError):
        call.resume.commit(b"nowhere")
    call.over.set()
    await retiring
    assert len(fresh.server.returned) == 1


@pytest.mark.parametrize("why", ["undone", "held", "announced"])
async def test_it_does_not_move_before_the_application_is_done(fresh, why):
    app = await start(fresh)
    client, call, _ = await begin(fresh, app)
    if why == "undone":
        await client.send(frame(b"one"))
        assert await call.text() == "one"
    elif why == "held":
        call.resume.hold()
        call.ask()
    else:
        call.resume.with_next(b"state")
    retiring = fresh.task(fresh.server.retire())
    await fresh.server.told.wait()
    await turns()
    assert not fresh.server.returned
    if why == "undone":
        call.ask()
    elif why == "held":
        call.resume.release()
    else:
        await call.send("one")
        call.ask()
    while not fresh.server.returned:
        await asyncio.sleep(0)
    call.over.set()
    await retiring


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.usefixtures("each_class")
async def test_what_the_application_sends_before_it_asks_for_a_message_comes_from_one_worker(fresh, name):
    app = await start(fresh)
    client, call, _ = await begin(fresh, app)
    for number in range(2):
        await call.send("hello")
        fresh.server.told.clear()
        retiring = fresh.task(fresh.server.retire())
        await fresh.server.told.wait()
        await turns()
        assert not fresh.server.returned
        await call.send("again")
        assert await client.exactly(14) == reply(b"hello") + reply(b"again")
        call.ask()
        assert (await call.asked)["type"] == "websocket.disconnect"
        call.over.set()
        await retiring
        await fresh.server.restart()
        fresh.server.take_again(fresh.server.returned.pop())
        call = await app.next()
        assert call.about["resumed"] == number + 1
    call.over.set()


async def test_a_websocket_whose_application_only_sends_moves_when_the_workers_time_is_over(fresh):
    app = await start(fresh)
    client, call, _ = await begin(fresh, app)
    retiring = fresh.task(fresh.server.retire(5.0))
    count = 0
    while not call.about["moved"]:
        await call.send(f"{count:3}")
        assert await client.exactly(5) == reply(b"%3d" % count)
        count += 1
        await asyncio.sleep(0.1)
    assert count > 20
    call.over.set()
    await retiring
    assert len(fresh.server.returned) == 1


async def test_a_commit_and_one_with_the_next_message(fresh):
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    one = frame(b"one")
    await client.send(one + one)
    await call.text()
    with pytest.raises(ValueError, match=r"^a state has at most 64 bytes, not 65$"):
        call.resume.commit(b"x" * 65)
    with pytest.raises(ValueError, match=r"^a state has at most 64 bytes, not 65$"):
        call.resume.with_next(b"x" * 65)
    call.resume.commit(b"first")
    assert positions(words) == (len(one), len(one), 0)
    assert (words.state, call.resume.state) == (b"first", b"first")
    await call.text()
    call.resume.with_next(b"second")
    await client.send(frame(b"", 9))
    assert await client.exactly(2) == reply(b"", 10)  # a pong is no message of the application
    assert positions(words) == (len(one), 2 * len(one), 0)
    assert words.state == b"first"
    await call.send("x")
    assert words[GIVEN] & POSITION == SIZE + 2 * len(one)
    assert words[BASE] == SIZE + 2 * len(one) + len(frame(b"", 9))
    assert (words.state, call.resume.state) == (b"second", b"second")
    await call.send("y")
    assert words.state == b"second"
    await moved(fresh, call)
    again = await app.next()
    assert again.resume.state == b"second"
    again.resume.commit()
    assert words.state == b"second"
    again.over.set()


async def test_a_commit_does_not_go_back_behind_a_ping(fresh):
    """The ping's bytes are in no buffer any more."""
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    await client.send(frame(b"one"))
    await call.text()
    call.resume.commit()
    await client.send(frame(b"", 9))
    assert await client.exactly(2) == reply(b"", 10)
    behind = SIZE + len(frame(b"one") + frame(b"", 9))
    while words[BASE] != behind:
        await asyncio.sleep(0)
    await client.send(frame(b"two"))
    while words[READ] != behind + len(frame(b"two")):
        await asyncio.sleep(0)
    call.resume.commit(b"state")
    assert (words[BASE], words.state) == (behind, b"state")
    call.resume.with_next()
    await call.send("x")
    assert words[BASE] == behind
    assert await call.text() == "two"
    call.over.set()


async def test_redelivery_is_in_given_from_the_time_at_which_it_was_asked_for(fresh):
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    await client.send(frame(b"one"))
    await call.text()
    assert not words[GIVEN] & REDELIVER
    call.resume.redeliver()
    assert words[GIVEN] == SIZE + 9 | REDELIVER
    await client.send(frame(b"two"))
    await call.text()
    assert words[GIVEN] == SIZE + 18 | REDELIVER
    call.over.set()


async def test_a_hold_counts_no_message_as_done_with(fresh):
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    with pytest.raises(RuntimeError, match="without a hold"):
        call.resume.release()
    one = frame(b"one")
    await client.send(one + one + one)
    call.resume.hold()
    await call.text()
    await call.text()
    assert positions(words) == (0, 2 * len(one), 0)
    call.resume.release()
    assert positions(words) == (0, 2 * len(one), 0)  # it has not asked for the third
    await call.text()
    assert positions(words) == (2 * len(one), 3 * len(one), 0)
    call.over.set()


async def test_the_attempt_is_counted_until_the_application_gets_on(fresh):
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    call.ask()
    await moved(fresh, call)
    call = await app.next()
    assert words[ATTEMPT] == 1
    while words[ATTEMPT]:
        await asyncio.sleep(0.1)
    words[ATTEMPT] = CALLED_BEFORE + 1
    assert call.resume.attempt == 1
    await client.send(frame(b"one"))
    await call.text()
    assert words[ATTEMPT] == CALLED_BEFORE + 1
    call.ask()
    await turns(5)
    assert (words[ATTEMPT], call.resume.attempt) == (0, 0)
    call.over.set()


async def test_a_long_message_is_in_no_buffer_until_it_is_done_with(fresh):
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    size = 200_000
    await client.send(b"\x81\xff" + size.to_bytes(8) + bytes(4) + b"x" * size)
    assert await call.text() == "x" * size
    assert words[BASE] == SIZE
    await client.send(frame(b"one"))
    assert await call.text() == "one"
    assert words[BASE] == SIZE + 14 + size
    call.ask()
    await turns(5)
    assert (words[BUFFER], words[FLAGS]) == (0, 0)
    call.over.set()


async def test_many_messages_are_read_while_the_application_is_not_done_with_one(fresh):
    """What is still needed moves to another buffer, before the first is full."""
    app = await start(fresh)
    client, call, words = await begin(fresh, app)
    data = frame(b"x" * 100)
    for count in range(1, 1200):
        await client.send(data)
        assert await call.text() == "x" * 100
        assert words[BASE] == SIZE + (count - 1) * len(data)
        if count == 1:
            await client.send(data[:50])  # so that the buffer is never empty
            await turns(3)
            data = data[50:] + data[:50]
    assert words[FLAGS] & Flag.OVERFLOW == 0
    call.over.set()


async def test_a_client_that_goes_while_nothing_is_read_of_it(fresh):
    """Its application has not accepted: it is told, if the client has sent nothing."""
    app = Script(accepts=False)
    await fresh.start(resume=("/ws",))
    client = await fresh(app)
    await client.send(HANDSHAKE)
    call = await app.next()
    client.close()
    message = await call.receive()
    assert message["type"] == "websocket.disconnect"
    call.over.set()
    await fresh.server.settled.wait()


async def test_a_client_that_goes_before_its_websocket_is_resumed(fresh):
    app = await start(fresh)
    client, call, _ = await begin(fresh, app)
    call.ask()
    await moved(fresh, call)
    client.close()
    await fresh.server.settled.wait()
    while not app.calls.empty():
        app.calls.get_nowait().over.set()


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.usefixtures("each_class")
async def test_a_refusal_is_one_write_that_ends_the_connection(fresh, name):
    async def app(scope, receive, send):
        assert scope["extensions"]["fdpass"]["attempt"] == 0
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"a", b"b")]})
        if name != "websockets":  # which does not wait for a body
            await turns(3)
            assert words[WRITTEN] == words[FINAL_END] == 0
        await send({"type": "websocket.http.response.body", "body": b"no"})

    await fresh.start()
    client = await fresh(app)
    words = Words(fresh.server)
    await client.send(HANDSHAKE)
    out, end = await client.out()
    assert out.startswith(b"HTTP/1.1 401 ")
    assert b"no" in out
    assert end == "closed"


async def test_a_handshake_is_a_request_with_a_safe_method_until_it_is_answered(fresh):
    app = Script(accepts=False)
    await fresh.start()
    client = await fresh(app)
    words = Words(fresh.server)
    await client.send(HANDSHAKE)
    call = await app.next()
    assert words[FLAGS] == Flag.CALLED | Flag.SAFE | Flag.IDEMPOTENT
    assert (words[BASE], words[READ]) == (0, SIZE)
    assert "resume" not in call.about
    await call._send({"type": "websocket.accept"})
    assert words[FLAGS] == Flag.OPAQUE | Flag.OVERFLOW
    await opened(client)
    await client.send(frame(b"one"))
    assert await call.text() == "one"
    assert words[READ] == SIZE
    call.over.set()
