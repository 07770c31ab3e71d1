"""``Expect: 100-continue``: a client that sends its body after ``100 Continue``."""

import pytest

from ._apps import Echo, Steps, length, part, start

HEAD = b"POST / HTTP/%b\r\nHost: x\r\nContent-Length: %d\r\nExpect: %b\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(size=4, version=b"1.1", expect=b"100-continue"):
    return HEAD % (version, size, expect)


@pytest.mark.parametrize("word", [b"100-continue", b"100-Continue"])
async def test_continue_is_sent_when_the_application_receives(serve, word):
    app = Steps()
    client = await serve(app)
    await client.send(head(expect=word))
    call = await app.next()
    assert await client.quiet()
    asked = serve.task(call.receive())
    assert await client.exactly(len(CONTINUE)) == CONTINUE
    await client.send(b"body")
    assert (await asked)["body"] == b"body"
    await call.answer()
    assert (await client.answer()).body == b"ok"


async def test_continue_is_sent_once_for_a_request(serve):
    app = Steps()
    client = await serve(app)
    await client.send(head())
    call = await app.next()
    for each in (b"bo", b"dy"):
        asked = serve.task(call.receive())
        if each == b"bo":
            assert await client.exactly(len(CONTINUE)) == CONTINUE
        await client.send(each)
        assert (await asked)["body"] == each
    await call.answer()
    assert (await client.answer()).status == 200


async def test_continue_is_sent_for_each_request(serve):
    client = await serve(Echo())
    for _ in range(2):
        await client.send(head())
        assert (await client.answer()).status == 100
        await client.send(b"body")
        assert (await client.answer()).body == b"body"
    assert (await client.get()).status == 200


async def test_no_continue_after_an_early_response(serve):
    """The client may send its body all the same; the server then serves the next request."""
    app = Steps()
    client = await serve(app)
    await client.send(head())
    await (await app.next()).answer(b"no")
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"no")
    await client.send(b"body", b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
    call = await app.next()
    assert call.scope["path"] == "/next"
    await call.answer()
    assert (await client.answer()).body == b"ok"


async def test_no_continue_after_the_start_of_the_response(serve):
    app = Steps()
    client = await serve(app)
    await client.send(head())
    call = await app.next()
    await call.send(start(200, length(2)))
    asked = serve.task(call.receive())
    await client.send(b"body")
    assert (await asked)["body"] == b"body"
    await call.send(part(b"ok"))
    call.end()
    assert (await client.answer()).body == b"ok"


async def test_continue_for_a_body_that_has_arrived(serve):
    """uvicorn sends it; RFC 9110 10.1.1: a server may leave it out."""
    client = await serve(Echo())
    await client.send(head() + b"body")
    answer = await client.answer()
    serve.agreed(answer.status, 100, 200)
    if answer.status == 100:
        answer = await client.answer()
    assert answer.body == b"body"


async def test_continue_for_an_empty_body(serve):
    """uvicorn sends it, although there is nothing to continue with."""
    client = await serve(Echo())
    await client.send(head(0))
    answer = await client.answer()
    serve.agreed(answer.status, 100, 200)
    if answer.status == 100:
        answer = await client.answer()
    assert answer.body == b"ok"


async def test_continue_for_http_1_0(serve):
    """uvicorn sends it; RFC 9110 10.1.1: a server must not, since HTTP/1.0 knows no 100."""
    client = await serve(Echo())
    await client.send(head(version=b"1.0") + b"body")
    answer = await client.answer()
    serve.agreed(answer.status, 100, 200)
    if answer.status == 100:
        answer = await client.answer()
    assert answer.body == b"body"


async def test_another_expectation_is_ignored(serve):
    app = Echo()
    client = await serve(app)
    await client.send(head(expect=b"the-worst") + b"body")
    assert (await client.answer()).body == b"body"
    assert (b"expect", b"the-worst") in app.scope["headers"]


async def test_an_application_that_fails_before_it_receives(serve):
    async def app(scope, receive, send):
        raise LookupError

    client = await serve(app)
    await client.send(head())
    answer = await client.answer()
    assert (answer.status, answer[b"connection"]) == (500, b"close")
    assert await client.ended()
    assert len(serve.lines) == 1
