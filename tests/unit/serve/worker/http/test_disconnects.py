"""Clients that go away, or that read slowly: what `receive` returns, and what `send` does."""

import asyncio

import pytest

from ._apps import Steps, length, part, sends, start
from ._client import turns

GONE = {"type": "http.disconnect"}
ENDS = ("close", "reset")
SIZE = 16 << 20  # more than any buffer holds


async def gone(serve, call, message):
    """Send a message to a client that has gone: `send` returns (ASGI 2.3), or raises OSError (ASGI 2.4)."""
    try:
        assert await call.send(message) is None
    except OSError:
        assert call.scope["asgi"]["spec_version"] >= "2.4"


@pytest.mark.parametrize("end", ENDS)
async def test_receive_that_waits_returns_disconnect(serve, end):
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
async def test_all_receives_that_wait_return_disconnect(serve, end):
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
async def test_receive_that_is_called_later_returns_disconnect(serve, end):
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
async def test_send_after_the_client_has_gone_does_no_harm(serve, end, begun):
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
    """uvicorn does not check messages for such a client."""
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


async def test_an_application_that_returns_without_a_response_to_a_client_that_has_gone_is_not_logged(serve):
    """No client would have read the response."""
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


async def test_an_application_that_fails_after_the_client_has_gone_is_logged(serve):
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
async def test_a_client_that_goes_in_the_middle_of_a_head_is_not_logged(serve, data, end):
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


async def test_a_client_that_goes_between_two_requests_is_not_logged(serve):
    client = await serve(sends(start(204), part()))
    await client.get()
    client.close()
    await serve.server.settled.wait()
    assert serve.lines == []


# Clients that end only their sending side


async def test_half_close_after_the_response(serve):
    client = await serve(sends(start(200, length(2)), part(b"ok")))
    assert (await client.get()).body == b"ok"
    await client.end()
    assert await client.ended()


async def test_half_close_before_the_response(serve):
    """uvicorn closes the connection and drops the response. Better: the client gets its response."""
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    await client.end()
    await turns()
    await call.answer()
    out, end = await client.out()
    serve.agreed((out.count(b"200 OK"), end), (0, "closed"), (1, "closed"))


async def test_half_close_together_with_the_request(serve):
    """``printf ... | nc`` does this. The application may have answered before the server sees the end."""
    client = await serve(sends(start(200, length(2)), part(b"ok")))
    await client.request()
    await client.end()
    out, end = await client.out()
    assert out in (b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert end == "closed"


# Slow clients


async def parts(call, done):
    """Send a large response, and note each part that `send` has taken."""
    await call.send(start(200, length(SIZE)))
    for count in range(0, SIZE, 1 << 16):
        await call.send(part(bytes(1 << 16), more=count + (1 << 16) < SIZE))
        done.append(count)


async def stalled(done):
    """Wait until `send` takes nothing more."""
    before = -1
    while len(done) != before:
        before = len(done)
        await turns(100)


async def test_send_waits_for_a_slow_client(serve):
    """The server buffers a bounded number of bytes, and the client gets all of the response."""
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
async def test_send_that_waits_ends_when_the_client_goes(serve, end):
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


async def test_send_of_one_large_part(serve):
    """uvicorn takes any part at once, and lets the next `send` wait. A server may wait with the first as well."""
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


async def test_two_tasks_that_send_to_a_slow_client_both_finish(serve):
    """Both tasks wait, and each part arrives whole."""
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


async def test_each_part_is_sent_at_once(serve):
    """The client of an event stream gets each event when the application sends it."""
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
