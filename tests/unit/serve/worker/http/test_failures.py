"""Applications that fail: what their clients get, and what the server logs."""

import asyncio

import pytest

from ._apps import Echo, length, part, start, then_last
from ._responses import FAILED

EACH_KIND = True
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = OK + b"transfer-encoding: chunked\r\n\r\n"
DONE = OK + b"content-length: 2\r\n\r\nok"
BEFORE, STARTED, HALF, WHOLE = (
    (),
    (start(),),
    (start(), part(b"x", more=True)),
    (start(200, length(2)), part(b"ok")),
)
ERRORS = {
    "an exception": LookupError("no table"),
    "cancelled": asyncio.CancelledError(),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "a group": ExceptionGroup("two", [LookupError("one"), KeyError("other")]),
}
SENT = {
    "before its response": (BEFORE, FAILED),
    "after the start": (STARTED, CHUNKS),
    "in the body": (HALF, CHUNKS + b"1\r\nx\r\n"),
    "after the response": (WHOLE, DONE),
}
BETTER = {"after the start": [(FAILED, "ended"), (b"", "ended")], "after the response": [(DONE, "kept")]}


def ends(messages, *, error=None, value=None):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        if error is not None:
            raise error
        return value

    return then_last(app)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("when", SENT)
async def test_an_application_that_raises(serve, when, error):
    """SystemExit and the like end one request, and not the server. uvicorn ends the connection as well.

    fdpass may keep the connection after a whole response, and may send 500 as long as it has sent nothing.
    """
    messages, out = SENT[when]
    client = await serve(ends(messages, error=ERRORS[error]))
    await client.send(GET)
    found = await client.outcome(serve.over)
    serve.agreed(found, (out, "ended"), *BETTER.get(when, ()))
    assert len(serve.lines) == 1
    assert (await (await serve.connect()).get(b"/last")).body == b"last"


async def test_the_traceback_is_logged(serve):
    async def app(scope, receive, send):
        raise LookupError("no table")

    client = await serve(app)
    await client.get()
    (record,) = (record for record in serve.log.records if record.levelname == "ERROR")
    assert record.exc_info[0] is LookupError
    assert "no table" in serve.log.text


@pytest.mark.parametrize("fails", [True, False])
async def test_a_path_writes_no_line_of_its_own_into_the_log(serve, fails):
    async def app(scope, receive, send):
        if fails:
            raise LookupError

    client = await serve(app)
    await client.get(b"/%0Aforged%1b%c3%a9%27")
    assert all("forged" not in line or "\\nforged\\x1b" in line for line in serve.log.text.splitlines())
    assert "\x1b" not in serve.log.text


@pytest.mark.parametrize("value", [5, 0, "", False])
@pytest.mark.parametrize("when", SENT)
async def test_an_application_that_returns_a_value(serve, when, value):
    """uvicorn logs it and closes the connection, without a response if none has started.

    Better: 500 if no response has started, and only the line in the log after a whole response.
    """
    messages, out = SENT[when]
    client = await serve(ends(messages, value=value))
    await client.send(GET)
    found = await client.outcome(serve.over)
    silent = b"" if when.startswith("before") else out
    serve.agreed(found, (silent, "ended"), (out, "ended"), *BETTER.get(when, ()))
    assert serve.said(f"ASGI callable should return None, but returned '{value}'.")


@pytest.mark.parametrize("when", [*list(SENT)[:3]])
async def test_an_application_that_returns_without_a_whole_response(serve, when):
    messages, out = SENT[when]
    client = await serve(ends(messages))
    await client.send(GET)
    found = await client.outcome(serve.over)
    serve.agreed(found, (out, "ended"), *BETTER.get(when, ()))
    what = "starting" if when.startswith("before") else "completing"
    assert serve.said(f"ASGI callable returned without {what} response.")


async def test_a_failure_after_content_length(serve):
    """The client gets less than content-length."""
    client = await serve(ends((start(200, length(9)), part(b"x", more=True)), error=LookupError()))
    await client.send(GET)
    out, _ = await client.out()
    assert out == OK + b"content-length: 9\r\n\r\nx"
    assert len(serve.lines) == 1


async def test_a_failure_in_a_head_request(serve):
    client = await serve(ends((), error=LookupError()))
    answer = await client.get(method=b"HEAD")
    assert (answer.status, answer[b"content-length"], answer[b"connection"]) == (500, b"21", b"close")
    assert await client.ended()


async def test_an_application_may_go_on_after_an_error_of_send(serve):
    """A refused message does not change the response."""
    seen = []

    async def app(scope, receive, send):
        await send(start(200, length(2)))
        for wrong in ({"type": "http.nonsense"}, start(), part(b"too long")):
            try:
                await send(wrong)
            except RuntimeError:
                seen.append(wrong)
        await send(part(b"ok"))

    client = await serve(app)
    assert (await client.get()).body == b"ok"
    assert len(seen) == 3
    assert (await client.get()).body == b"ok"
    assert serve.lines == []


async def test_an_application_may_start_again_after_a_refused_start(serve):
    """uvicorn takes the response for started, and refuses the second start. Better: it accepts it."""

    async def app(scope, receive, send):
        try:
            await send(start(200, (b"x-a", b"\r\n")))
        except RuntimeError:
            await send(start(503, length(0)))
            await send(part())

    client = await serve(then_last(app))
    await client.send(GET)
    found = await client.outcome(serve.over)
    serve.agreed(found, (b"", "ended"), (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "kept"))
    assert len(serve.lines) == (found[1] == "ended")


async def test_a_failure_does_not_affect_other_connections(serve):
    app = Echo()

    async def both(scope, receive, send):
        if scope["path"] == "/fails":
            raise LookupError
        await app(scope, receive, send)

    client = await serve(both)
    other = await serve.connect()
    await other.get()
    assert (await client.get(b"/fails")).status == 500
    assert (await other.get()).body == b"ok"


async def test_an_application_may_work_on_after_its_response(serve):
    """Frameworks run background tasks so. The next request of the connection does not wait for them."""
    going, over = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await send(start(200, length(2)))
        await send(part(b"ok"))
        if scope["path"] == "/long":
            going.set()
            await over.wait()

    client = await serve(app)
    assert (await client.get(b"/long")).body == b"ok"
    await going.wait()
    for _ in range(3):
        assert (await client.get()).body == b"ok"
    over.set()


async def test_any_task_may_send(serve):

    async def app(scope, receive, send):
        await asyncio.create_task(send(start(200, length(4))))
        await asyncio.gather(send(part(b"ab", more=True)), send(part(b"cd", more=True)))
        await send(part())

    client = await serve(app)
    assert (await client.get()).body == b"abcd"


async def test_each_request_runs_in_its_own_task(serve):
    tasks = []

    async def app(scope, receive, send):
        tasks.append(asyncio.current_task())
        await send(start(200, length(0)))
        await send(part())

    client = await serve(app)
    for _ in range(2):
        await client.get()
    assert tasks[0] is not tasks[1]
