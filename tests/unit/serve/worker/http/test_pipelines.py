"""Several requests at once: one after the other is served, and answered in its turn."""

import asyncio

import pytest

from ._apps import Echo, Steps, length, part, sends, start
from ._client import turns

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
GONE = {"type": "http.disconnect"}


def get(path, *fields):
    return GET % (path, b"".join(field + b"\r\n" for field in fields))


def post(path, body):
    return POST % (path, len(body), body)


async def path_echo(scope, receive, send):
    """Answers with path and body."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    text = scope["path"].encode() + b" " + body
    await send(start(200, length(len(text))))
    await send(part(text))


async def test_answers_come_in_the_order_of_the_requests(serve):
    client = await serve(path_echo)
    await client.send(get(b"/1") + post(b"/2", b"body") + get(b"/3"))
    assert [(await client.answer()).body for _ in range(3)] == [b"/1 ", b"/2 body", b"/3 "]


@pytest.mark.parametrize("cut", range(0, 120, 9))
async def test_where_the_bytes_are_cut_does_not_matter(serve, cut):
    data = get(b"/1") + post(b"/2", b"body") + get(b"/3")
    client = await serve(path_echo)
    await client.send(data[:cut])
    await turns(5)
    await client.send(data[cut:])
    assert [(await client.answer()).body for _ in range(3)] == [b"/1 ", b"/2 body", b"/3 "]


async def test_a_hundred(serve):
    client = await serve(path_echo)
    await client.send(b"".join(get(b"/%d" % number) for number in range(100)))
    assert [(await client.answer()).body for _ in range(100)] == [b"/%d " % number for number in range(100)]


async def test_the_second_is_not_begun_before_the_first_is_answered(serve):
    app = Steps()
    client = await serve(app)
    await client.send(get(b"/1") + get(b"/2"))
    first = await app.next()
    await turns()
    assert not app.waiting
    await first.send(start(200, length(2)))
    await turns()
    assert not app.waiting
    await first.send(part(b"ok"))
    second = await app.next()
    assert second.scope["path"] == "/2"
    first.end()
    await second.answer()
    assert [(await client.answer()).body for _ in range(2)] == [b"ok", b"ok"]


async def test_the_second_begins_with_the_end_of_the_first_response(serve):
    """And not with that of the application, which may go on behind its response."""
    app = Steps()
    client = await serve(app)
    await client.send(get(b"/1") + get(b"/2"))
    first = await app.next()
    await first.send(start(200, length(2)))
    await first.send(part(b"ok"))
    await (await app.next()).answer()
    assert [(await client.answer()).body for _ in range(2)] == [b"ok", b"ok"]
    assert await first.receive() == GONE
    first.end()


async def test_a_request_that_comes_while_one_is_in_progress(serve):
    app = Steps()
    client = await serve(app)
    await client.send(get(b"/1"))
    first = await app.next()
    await client.send(post(b"/2", b"body"))
    await turns()
    assert not app.waiting
    await first.answer()
    second = await app.next()
    assert (await second.receive())["body"] == b"body"
    await second.answer()
    assert [(await client.answer()).body for _ in range(2)] == [b"ok", b"ok"]


async def test_the_first_does_not_get_the_body_of_the_second(serve):
    app = Steps()
    client = await serve(app)
    await client.send(get(b"/1") + post(b"/2", b"body"))
    first = await app.next()
    assert await first.receive() == {"type": "http.request", "body": b"", "more_body": False}
    waiting = asyncio.create_task(first.receive())
    await turns()
    assert not waiting.done()
    await first.answer()
    assert await waiting == GONE
    second = await app.next()
    assert (await second.receive())["body"] == b"body"
    await second.answer()


@pytest.mark.parametrize("by", ["client", "application", "failure", "value", "silence"])
async def test_nothing_is_served_behind_one_that_ends_the_connection(serve, by):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["path"])
        if by == "failure":
            raise LookupError
        if by == "silence":
            return None
        await send(start(200, length(0), *([(b"connection", b"close")] if by == "application" else [])))
        await send(part())
        return 5 if by == "value" else None

    client = await serve(app)
    await client.send(get(b"/1", *([b"Connection: close"] if by == "client" else [])))
    await client.send(get(b"/2"))
    await client.answer()
    if by == "value":  # the next one may have begun, and its answer may have gone out
        await client.rest()
        assert seen in (["/1"], ["/1", "/2"])
    else:
        assert await client.ended()
        assert seen == ["/1"]
    assert len(serve.lines) in ({0} if by in ("client", "application") else {1, 2})


async def test_one_that_is_malformed_behind_one_in_progress(serve):
    """uvicorn answers at once: its 400 passes for the answer to the first. Better: the first is answered first."""
    app = Steps()
    client = await serve(app)
    await client.send(get(b"/1") + b"nonsense\r\n\r\n")
    first = await app.next()
    await turns()
    await first.answer()
    out = await client.rest()
    good, bad = out.find(b"HTTP/1.1 200"), out.find(b"HTTP/1.1 400")
    serve.agreed((good >= 0, bad >= 0, good < bad), (False, True, True), (True, True, True))
    assert serve.said("Invalid HTTP request received.")


async def test_the_first_is_told_when_the_client_goes(serve):
    """uvicorn tells the last that has come, which is not served yet: the first waits for ever."""
    app = Steps()
    client = await serve(app)
    await client.send(get(b"/1") + get(b"/2"))
    first = await app.next()
    await first.receive()
    waiting = asyncio.create_task(first.receive())
    await turns(5)
    client.close()
    await serve.server.settled.wait()
    await turns()
    serve.agreed(waiting.done(), False, True)
    if waiting.done():
        assert waiting.result() == GONE
    waiting.cancel()
    await asyncio.wait([waiting])
    first.end()
    await serve.over()
    assert not app.waiting


async def test_requests_that_nobody_waits_for_any_more(serve):
    """uvicorn stops reading while a second request waits, and so does not see that the client goes.

    A call that begins all the same is told at once.
    """
    app = Steps()
    client = await serve(app)
    await client.send(get(b"/1") + post(b"/2", b"x"))
    first = await app.next()
    client.reset()
    await turns(5)
    await first.answer()
    await serve.server.settled.wait()
    if app.waiting:
        second = await app.next()
        assert await second.receive() == GONE
        second.end()


async def test_many_requests_in_progress_are_not_all_read(serve):
    """The server stops reading; what it holds is bounded."""
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.send(get(b"/1"))
    first = await app.next()
    many = asyncio.create_task(client.send(get(b"/more") * 100_000))
    await turns(2000)
    assert not many.done()
    many.cancel()
    await asyncio.wait([many])
    first.end()
    await turns()


async def test_a_response_without_a_body_is_not_mixed_with_the_next(serve):
    client = await serve(sends(start(200, length(2)), part(b"ok")))
    await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + get(b"/"))
    assert (await client.answer(head=True))[b"content-length"] == b"2"
    assert (await client.answer()).body == b"ok"


async def test_a_large_response_and_the_next_one(serve):
    """The second waits until the first has gone out, or behind it in the same buffer; they do not mix."""
    size = 4 << 20
    app = Echo()
    client = await serve(app, room=1 << 14)
    body = bytes(range(256)) * (size // 256)

    async def large(scope, receive, send):
        if scope["path"] == "/1":
            await send(start(200, length(size)))
            await send(part(body))
        else:
            await app(scope, receive, send)

    serve.server.switch.app = large
    await client.send(get(b"/1") + get(b"/2"))
    assert (await client.answer()).body == body
    assert (await client.answer()).body == b"ok"
