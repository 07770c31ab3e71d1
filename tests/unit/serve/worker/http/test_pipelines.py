"""Pipelining: the server serves the requests of one connection one after the other, and answers in order."""

import asyncio

import pytest

from ._apps import Echo, Steps, length, part, sends, start
from ._client import noticed, turns

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
GONE = {"type": "http.disconnect"}


def get(path, *fields):
    return GET % (path, b"".join(field + b"\r\n" for field in fields))


def post(path, body):
    return POST % (path, len(body), body)


async def path_echo(scope, receive, send):
    """Answer with the path and the body of the request."""
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
async def test_requests_may_arrive_in_any_two_pieces(serve, cut):
    data = get(b"/1") + post(b"/2", b"body") + get(b"/3")
    client = await serve(path_echo)
    await client.send(data[:cut])
    await turns(5)
    await client.send(data[cut:])
    assert [(await client.answer()).body for _ in range(3)] == [b"/1 ", b"/2 body", b"/3 "]


async def test_a_hundred_requests_at_once(serve):
    client = await serve(path_echo)
    await client.send(b"".join(get(b"/%d" % number) for number in range(100)))
    assert [(await client.answer()).body for _ in range(100)] == [b"/%d " % number for number in range(100)]


async def test_the_second_request_starts_after_the_first_response(serve):
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


async def test_the_second_request_does_not_wait_for_the_first_call_to_return(serve):
    """The end of the first response is enough; its application may work on."""
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


async def test_a_request_that_arrives_while_another_is_in_progress(serve):
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


async def test_the_first_request_does_not_get_the_body_of_the_second(serve):
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
async def test_no_request_is_served_after_one_that_ends_the_connection(serve, by):
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


async def test_a_malformed_request_after_one_in_progress(serve):
    """uvicorn sends 400 at once, which the client takes for the first response. Better: that one comes first."""
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


async def test_the_request_in_progress_receives_disconnect_although_another_waits(serve):
    """uvicorn tells only the last request that has arrived, which has not started: the first waits for ever."""
    app = Steps()
    client = await serve(app)
    await client.send(get(b"/1") + get(b"/2"))
    first = await app.next()
    await first.receive()
    waiting = asyncio.create_task(first.receive())
    await turns(5)
    client.close()
    await noticed(serve)
    await turns()
    assert waiting.done() is not serve.reference
    if not serve.reference:
        assert waiting.result() == GONE
    waiting.cancel()
    await asyncio.wait([waiting])
    first.end()
    await serve.over()
    assert not app.waiting


async def test_a_request_that_waits_when_the_client_goes(serve):
    """uvicorn does not read while a second request waits, and so does not see that the client goes.

    The server may serve the second request; then that one receives http.disconnect at once.
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


async def test_the_server_reads_a_bounded_number_of_requests_ahead(serve):
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


async def test_a_response_to_head_and_the_next_response(serve):
    client = await serve(sends(start(200, length(2)), part(b"ok")))
    await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + get(b"/"))
    assert (await client.answer(head=True))[b"content-length"] == b"2"
    assert (await client.answer()).body == b"ok"


async def test_a_large_response_and_the_next_response(serve):
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


BLANK = b"\r\n"


@pytest.mark.parametrize("blank", [BLANK, BLANK * 3])
async def test_empty_lines_between_requests_are_skipped(serve, blank):
    """RFC 9112 2.2. Old clients send one after the body of a POST."""
    app = Echo()
    client = await serve(app)
    await client.send(blank)
    for number in range(3):
        await client.send(post(b"/%d" % number, b"body") + blank)
        assert (await client.answer()).body == b"body"
        await client.send(*(bytes([byte]) for byte in blank))
    assert len(app.scopes) == 3


@pytest.mark.parametrize("piece", [0, 1])
async def test_the_client_is_seen_to_go_behind_an_empty_line(serve, piece):
    app = Steps()
    client = await serve(app)
    await client.send(post(b"/", b"body") + BLANK * piece)
    call = await app.next()
    assert (await call.receive())["body"] == b"body"
    waiting = serve.task(call.receive())
    if not piece:
        await turns()
        await client.send(BLANK)
    await turns()
    client.close()
    assert await waiting == GONE
    call.end()


@pytest.mark.parametrize("when", ["with the request", "after the request", "after the response"])
async def test_an_empty_line_does_not_hold_a_retiring_worker(fresh, when):
    """In custody the connection is given back, and the next worker serves it."""
    if fresh.kind == "tls":
        pytest.skip("its client would have to answer close_notify")
    await fresh.start()
    app = Steps()
    client = await fresh(app)
    await client.send(post(b"/", b"body") + (BLANK if when == "with the request" else b""))
    call = await app.next()
    if when == "after the request":
        await client.send(BLANK)
        await turns()
    await call.answer()
    assert (await client.answer()).body == b"ok"
    if when == "after the response":
        await client.send(BLANK)
    await turns()
    async with asyncio.timeout(5):
        await fresh.server.retire(30.0)
    if fresh.kind == "custody":
        await fresh.server.restart()
        (passed,) = fresh.server.returned
        fresh.server.returned.clear()
        fresh.server.take_again(passed)
        await client.request()
        await (await app.next()).answer()
        assert (await client.answer()).body == b"ok"


async def test_requests_that_waited_and_are_not_in_custody_do_not_make_the_server_read_on(serve):
    """The end of ``/odd`` is not certain for custody, so the protocol gets it together with ``/large``."""
    if serve.reference:
        pytest.skip("it looks into fdpass")
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.send(get(b"/first"))
    call = await app.next()
    odd = b"POST /odd HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    await client.send(odd + POST % (b"/large", 1_000_000, b""))
    await turns()
    await call.answer()
    call = await app.next()
    await client.answer()
    sending = asyncio.create_task(client.send(bytes(1_000_000)))
    for _ in range(30):
        await turns()
    (connection,) = serve.server.engine.connections
    assert len(connection._incoming.body) == 0
    await call.answer()
    call = await app.next()
    assert call.scope["path"] == "/large"
    while (await call.receive())["more_body"]:
        pass
    await call.answer()
    await sending
