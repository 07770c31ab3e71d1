"""The client goes: what the application is told, and what becomes of what it sends then."""

import asyncio

import pytest

from ._apps import Steps, length, part, sends, start
from ._client import turns

GONE = {"type": "http.disconnect"}
ENDS = ("close", "reset")
SIZE = 16 << 20  # more than any buffer holds


async def gone(serve, call, message):
    """Send it to a client that has gone: nothing happens, as ASGI 2.3 has it, or OSError, as 2.4 does."""
    try:
        assert await call.send(message) is None
    except OSError:
        assert call.scope["asgi"]["spec_version"] >= "2.4"


@pytest.mark.parametrize("end", ENDS)
async def test_one_that_waits_is_told(serve, end):
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    await call.receive()
    waiting = serve.task(call.receive())
    await turns(3)
    getattr(client, end)()
    assert await waiting == GONE
    call.end()
    await serve.over()
    assert serve.lines == []


@pytest.mark.parametrize("end", ENDS)
async def test_all_that_wait_are_told(serve, end):
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    await call.receive()
    waiting = [serve.task(call.receive()) for _ in range(3)]
    await turns(3)
    getattr(client, end)()
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await turns(5)
    assert {task.done() for task in waiting} == {True}
    assert all(task.result() == GONE for task in done)
    call.end()


@pytest.mark.parametrize("end", ENDS)
async def test_one_that_asks_later_is_told(serve, end):
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    getattr(client, end)()
    await serve.server.settled.wait()
    assert await call.receive() == GONE
    assert await call.receive() == GONE
    call.end()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("begun", [False, True])
async def test_what_is_sent_then_does_no_harm(serve, end, begun):
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    if begun:
        await call.send(start())
        await call.send(part(b"x", more=True))
        await client.until(b"x\r\n")
    getattr(client, end)()
    await serve.server.settled.wait()
    for message in ([] if begun else [start()]) + [part(b"x", more=True), part(b"x" * 100_000, more=True), part()]:
        await gone(serve, call, message)
    assert await call.receive() == GONE
    call.end()
    await serve.over()
    assert serve.lines == []


async def test_a_wrong_message_to_a_client_that_has_gone(serve):
    """uvicorn does not look at it."""
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    client.close()
    await serve.server.settled.wait()
    failed = 0
    for message in ({"type": "http.nonsense"}, start("x"), part("text")):
        try:
            await call.send(message)
        except Exception:
            failed += 1
    serve.agreed(failed, 0, 1, 2, 3)
    call.end()


async def test_an_application_that_returns_then_is_not_blamed(serve):
    """It has neither sent a response nor ended one; and nobody would have read it."""
    app = Steps()
    client = await serve(app)
    for begun in (False, True):
        await client.request()
        call = await app.next()
        if begun:
            await call.send(start(200, length(5)))
        client.close()
        await serve.server.settled.wait()
        call.end()
        await serve.over()
        assert serve.lines == []
        client = await serve.connect()


async def test_an_application_that_fails_then_is_logged(serve):
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    client.close()
    await serve.server.settled.wait()
    call.fail(LookupError("late"))
    await serve.over()
    assert len(serve.lines) == 1


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
@pytest.mark.parametrize("end", [*ENDS, "half"])
async def test_a_client_that_goes_before_its_request_is_whole_is_no_trouble(serve, data, end):
    client = await serve(sends())
    if data:
        await client.send(data)
    await turns(3)
    if end == "half":
        await client.end()
        assert await client.ended()
    else:
        getattr(client, end)()
    await serve.server.settled.wait()
    assert not serve.server.switch.called.is_set()
    assert serve.lines == []


async def test_a_client_that_goes_between_two_requests_is_no_trouble(serve):
    client = await serve(sends(start(204), part()))
    await client.get()
    client.close()
    await serve.server.settled.wait()
    assert serve.lines == []


# One side alone


async def test_a_client_that_sends_no_more_after_its_answer(serve):
    client = await serve(sends(start(200, length(2)), part(b"ok")))
    assert (await client.get()).body == b"ok"
    await client.end()
    assert await client.ended()


async def test_a_client_that_sends_no_more_and_waits_for_its_answer(serve):
    """uvicorn ends the connection, and the application is told that the client has gone. Better: it is answered."""
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    await client.end()
    await turns()
    await call.answer()
    out, end = await client.out()
    serve.agreed((out.count(b"200 OK"), end), (0, "closed"), (1, "closed"))


async def test_a_request_and_the_end_in_one_go(serve):
    """As ``printf ... | nc`` does it: here the application may have answered before the end is seen."""
    client = await serve(sends(start(200, length(2)), part(b"ok")))
    await client.request()
    await client.end()
    out, end = await client.out()
    assert out in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert end == "closed"


# A slow client


async def parts(call, done):
    """Sends until it may not; notes each part that was taken."""
    await call.send(start(200, length(SIZE)))
    for count in range(0, SIZE, 1 << 16):
        await call.send(part(bytes(1 << 16), more=count + (1 << 16) < SIZE))
        done.append(count)


async def stalled(done):
    """Until nothing more is taken."""
    before = -1
    while len(done) != before:
        before = len(done)
        await turns(100)


async def test_send_waits_for_a_slow_client(serve):
    """What waits in the server is bounded; and all of it arrives."""
    app, done = Steps(), []
    client = await serve(app, room=1 << 14)
    await client.request()
    call = await app.next()
    sending = serve.task(parts(call, done))
    await stalled(done)
    assert not sending.done()
    assert len(done) << 16 < 2 << 20
    assert len((await client.answer()).body) == SIZE
    await sending
    call.end()


@pytest.mark.parametrize("end", ENDS)
async def test_send_does_not_wait_for_a_client_that_has_gone(serve, end):
    app, done = Steps(), []
    client = await serve(app, room=1 << 14)
    await client.request()
    call = await app.next()
    sending = serve.task(parts(call, done))
    await stalled(done)
    getattr(client, end)()
    try:
        await sending
    except OSError:
        assert call.scope["asgi"]["spec_version"] >= "2.4"
    assert await call.receive() == GONE
    call.end()
    await serve.over()
    assert serve.lines == []


async def test_one_large_part_does_not_wait(serve):
    """uvicorn takes a part whole, and lets the next one wait. Better may be to wait until it has gone out."""
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.request()
    call = await app.next()
    await call.send(start(200, length(SIZE)))
    sending = serve.task(call.send(part(bytes(SIZE))))
    await turns()
    serve.agreed(sending.done(), True, False)
    assert len((await client.answer()).body) == SIZE
    await sending
    call.end()


async def test_two_that_send_at_once_both_go_on(serve):
    """A slow client lets both wait; each part arrives whole."""
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.request()
    call = await app.next()
    await call.send(start())

    async def many(byte):
        for _ in range(40):
            await call.send(part(byte * 50_000, more=True))

    both = serve.task(asyncio.wait([serve.task(many(byte)) for byte in (b"a", b"b")]))
    await turns(300)
    assert not both.done()
    answer = serve.task(client.answer())
    await both
    await call.send(part())
    assert set((await answer).sizes) == {50_000}
    assert len(answer.result().sizes) == 80
    call.end()


async def test_many_small_parts_arrive_in_order(serve):
    messages = [part(b"%d," % number, more=True) for number in range(2000)]
    client = await serve(sends(start(), *messages, part()))
    answer = await client.get()
    assert answer.body == b"".join(message["body"] for message in messages)
    assert len(answer.sizes) == 2000


async def test_a_part_is_on_its_way_when_it_was_sent(serve):
    """Nothing is kept back until more comes: an event stream is read as it is written."""
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    await call.send(start())
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    for number in range(3):
        await call.send(part(b"data: %d\n\n" % number, more=True))
        assert await client.until(b"\n\n\r\n") == b"9\r\ndata: %d" % number
    await call.send(part())
    assert await client.until(b"\r\n\r\n") == b"0"
    call.end()
