"""``Expect: 100-continue``: a client that waits to be asked for its body."""

import pytest

from ._apps import Echo, Steps, length, part, start

HEAD = b"POST / HTTP/%b\r\nHost: x\r\nContent-Length: %d\r\nExpect: %b\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def head(size=4, version=b"1.1", expect=b"100-continue"):
    return HEAD % (version, size, expect)


@pytest.mark.parametrize("word", [b"100-continue", b"100-Continue"])
async def test_a_client_is_asked_for_its_body_when_the_application_wants_it(serve, word):
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


async def test_it_is_asked_once(serve):
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


async def test_each_request_is_asked_for(serve):
    client = await serve(Echo())
    for _ in range(2):
        await client.send(head())
        assert (await client.answer()).status == 100
        await client.send(b"body")
        assert (await client.answer()).body == b"body"
    assert (await client.get()).status == 200


async def test_an_early_answer_takes_the_place_of_asking(serve):
    """The client then sends its body all the same, as it may; the next request is served."""
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


async def test_nobody_is_asked_once_the_response_has_started(serve):
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


async def test_a_body_that_is_here_already(serve):
    """uvicorn asks for it nevertheless; RFC 9110 10.1.1: it may leave that out."""
    client = await serve(Echo())
    await client.send(head() + b"body")
    answer = await client.answer()
    serve.agreed(answer.status, 100, 200)
    if answer.status == 100:
        answer = await client.answer()
    assert answer.body == b"body"


async def test_a_request_without_a_body(serve):
    """uvicorn asks for nothing."""
    client = await serve(Echo())
    await client.send(head(0))
    answer = await client.answer()
    serve.agreed(answer.status, 100, 200)
    if answer.status == 100:
        answer = await client.answer()
    assert answer.body == b"ok"


async def test_http_1_0_is_not_asked(serve):
    """uvicorn asks it; RFC 9110 10.1.1: it must not, for such a client does not know what 100 is."""
    client = await serve(Echo())
    await client.send(head(version=b"1.0") + b"body")
    answer = await client.answer()
    serve.agreed(answer.status, 100, 200)
    if answer.status == 100:
        answer = await client.answer()
    assert answer.body == b"body"


async def test_another_expectation_is_passed_on(serve):
    app = Echo()
    client = await serve(app)
    await client.send(head(expect=b"the-worst") + b"body")
    assert (await client.answer()).body == b"body"
    assert (b"expect", b"the-worst") in app.scope["headers"]


async def test_a_failure_before_the_body_was_asked_for(serve):
    async def app(scope, receive, send):
        raise LookupError

    client = await serve(app)
    await client.send(head())
    answer = await client.answer()
    assert (answer.status, answer[b"connection"]) == (500, b"close")
    assert await client.ended()
    assert len(serve.lines) == 1
