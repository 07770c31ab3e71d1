"""Clients that go away, or that read slowly: what `receive` returns, and what `send` does."""

import asyncio

import pytest

from ._apps import Steps, length, part, sends, start
from ._client import noticed, turns

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
    await noticed(serve, end)
    message = await call.receive()
    assert message == GONE or (message["type"] == "http.request" and not serve.reference)
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
    await noticed(serve, end)
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
    await noticed(serve)
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
        await noticed(serve)
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
    await noticed(serve)
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


def whole(serve):
    """Whether a client that half-closes gets its response: uvicorn and asyncio's TLS close the connection."""
    return serve.kind in {"custody", "plain"}


ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"
POST = b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize("listens", [False, True])
async def test_half_close_before_the_response(serve, listens):
    """The client gets its response, and the connection ends. `receive` returns the body, then http.disconnect."""
    app = Steps()
    client = await serve(app)
    await client.send(POST)
    call = await app.next()
    if listens:
        assert (await call.receive())["body"] == b"body"
        waiting = serve.task(call.receive())
    await client.end()
    await turns()
    if listens:
        assert await waiting == GONE
    elif whole(serve):
        assert (await call.receive())["body"] == b"body"
        assert await call.receive() == GONE
    await call.answer()
    out, end = await client.out()
    assert end == "closed"
    assert out == ANSWER + b"connection: close\r\n\r\nok" or (
        out in {b"", ANSWER + b"\r\nok"} and not whole(serve)
    )
    assert serve.lines == []


async def test_half_close_after_the_start_of_the_response(serve):
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    await call.send(start())
    await call.send(part(b"one", more=True))
    await client.until(b"one\r\n")
    await client.end()
    await turns()
    await call.send(part(b"two", more=True))
    await call.send(part())
    out, _ = await client.out()
    assert out == b"3\r\ntwo\r\n0\r\n\r\n" or not whole(serve)
    call.end()


@pytest.mark.parametrize("begun", [False, True])
async def test_an_application_that_stops_because_the_client_has_half_closed(serve, begun):
    """The client sees that its response is not whole, and nothing is logged."""
    if serve.kind == "tls":
        pytest.skip("asyncio's TLS ends the connection a while later")
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    if begun:
        await call.send(start())
        await call.send(part(b"one", more=True))
        await client.until(b"one\r\n")
    await client.end()
    await turns()
    call.end()
    assert await client.rest() == b""
    await serve.over()
    assert serve.lines == []


async def test_half_close_together_with_the_request(serve):
    """``printf ... | nc`` does this. uvicorn may see the end after the answer."""
    client = await serve(sends(start(200, length(2)), part(b"ok")))
    await client.request()
    await client.end()
    out, end = await client.out()
    assert out.endswith(b"ok") if whole(serve) else out in (b"", ANSWER + b"\r\nok")
    assert end == "closed"


@pytest.mark.parametrize("late", [False, True])
async def test_half_close_behind_several_requests(serve, late):
    """The client gets all responses."""
    if not whole(serve):
        pytest.skip("of plain HTTP in fdpass only")
    app = Steps()
    client = await serve(app)
    await client.send(POST)
    call = await app.next()
    await client.send(POST.replace(b" /1", b" /2"), POST.replace(b" /1", b" /3"))
    if late:
        await turns()
    await client.end()
    await turns()
    for path in ("/1", "/2", "/3"):
        assert call.scope["path"] == path
        assert (await call.receive())["body"] == b"body"
        assert await call.receive() == GONE
        await call.answer()
        if path != "/3":
            call = await app.next()
    out, end = await client.out()
    assert (out.count(ANSWER), end) == (3, "closed")


@pytest.mark.parametrize("behind", [b"GET / HT", b"\r\n", b"nonsense\r\n\r\n", POST[:-1]])
async def test_half_close_with_something_else_behind_the_request(serve, behind):
    if not whole(serve):
        pytest.skip("of plain HTTP in fdpass only")
    app = Steps()
    client = await serve(app)
    await client.send(POST, behind)
    call = await app.next()
    await client.end()
    await turns()
    await call.answer()
    if behind.startswith(b"POST"):
        call = await app.next()
        while (await call.receive()) != GONE:
            pass
        call.end()
    out, end = await client.out()
    assert (out.count(ANSWER), out.count(b"HTTP/1.1 400"), end) == (1, behind.startswith(b"nonsense"), "closed")


@pytest.mark.parametrize("begun", [False, True])
async def test_half_close_within_a_body(serve, begun):
    """The application receives http.disconnect, and the connection ends."""
    if serve.kind == "tls":
        pytest.skip("asyncio's TLS ends the connection a while later")
    app = Steps()
    client = await serve(app)
    await client.send(POST[:-1])
    call = await app.next()
    if begun:
        await call.send(start(200, length(3)))
        await call.send(part(b"a", more=True))
        await client.until(b"\r\n\r\na")
    await client.end()
    assert await client.rest() == b""
    assert await call.receive() == GONE
    call.end()


@pytest.mark.parametrize("end", ENDS)
async def test_a_client_that_goes_after_its_half_close_is_noticed_at_once_or_at_the_next_part(serve, end):
    if not whole(serve):
        pytest.skip("of plain HTTP in fdpass only")
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    await client.end()
    await turns()
    getattr(client, end)()
    if end == "close":
        await call.send(start())
        await call.send(part(b"x", more=True))
    await serve.server.settled.wait()
    call.end()
    assert serve.lines == []


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
    """The server takes any part at once, and lets the next `send` wait."""
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.request()
    call = await app.next()
    await call.send(start(200, length(SIZE)))
    sending = serve.task(call.send(part(bytes(SIZE))))
    await turns()
    assert sending.done()
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
