"""Persistence: when a connection stays open for another request, and when keep-alive ends it."""

import asyncio
import email.utils

import pytest

from ._apps import Echo, Steps, length, part, sends, start

GET = b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: x\r\n%b\r\n"
KEEP = b"Connection: keep-alive\r\n"


async def test_a_connection_serves_one_request_after_the_other(serve):
    app = Echo()
    client = await serve(app)
    for number in range(5):
        answer = await client.get(method=b"POST", body=b"%d" % number)
        assert (answer.body, answer[b"connection"]) == (b"%d" % number, None)
    assert len(app.scopes) == 5


@pytest.mark.parametrize(
    "field",
    [b"Connection: close", b"connection: Close", b"Connection: x, close", b"Connection: close, keep-alive"],
)
async def test_connection_close_of_the_client_is_answered_with_connection_close(serve, field):
    client = await serve(Echo())
    answer = await client.get(b"/", field)
    assert (answer.body, answer[b"connection"]) == (b"ok", b"close")
    assert await client.ended()


async def test_connection_close_is_sent_once(serve):
    client = await serve(sends(start(200, length(0), (b"connection", b"close")), part()))
    answer = await client.get(b"/", b"Connection: close")
    assert answer.all(b"connection") == [b"close"]
    assert await client.ended()


async def test_keep_alive_of_the_application_does_not_override_close_of_the_client(serve):
    """uvicorn sends both fields. Better: close alone."""
    client = await serve(sends(start(200, length(0), (b"connection", b"keep-alive")), part()))
    answer = await client.get(b"/", b"Connection: close")
    serve.agreed(answer.all(b"connection"), [b"keep-alive", b"close"], [b"close"])
    assert await client.ended()


async def test_no_request_is_served_after_one_with_connection_close(serve):
    app = Echo()
    client = await serve(app)
    await client.send(GET % b"Connection: close\r\n" + b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await client.answer()).body == b"ok"
    assert await client.ended()
    assert [scope["path"] for scope in app.scopes] == ["/"]


async def test_a_client_of_http_1_0_gets_one_answer(serve):
    client = await serve(Echo())
    await client.send(OLD % b"")
    answer = await client.answer()
    assert (answer.version, answer.body, answer[b"connection"]) == (b"HTTP/1.1", b"ok", b"close")
    assert await client.ended()


async def test_keep_alive_of_http_1_0(serve):
    """uvicorn closes the connection. Better: it stays open, and the response says so (RFC 9112 C.2.2)."""
    client = await serve(Echo())
    await client.send(OLD % KEEP)
    answer = await client.answer()
    assert answer.body == b"ok"
    serve.agreed(answer[b"connection"], b"close", b"keep-alive")
    if answer[b"connection"] == b"close":
        assert await client.ended()
    else:
        await client.send(OLD % b"")
        assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("field", [b"", KEEP])
async def test_a_response_of_unknown_length_to_http_1_0(serve, field):
    """uvicorn sends chunks, which HTTP/1.0 does not know. Better: the end of the connection ends the body."""
    client = await serve(sends(start(), part(b"a", more=True), part(b"b")))
    await client.send(OLD % field)
    out, end = await client.out()
    assert end == "closed"
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
    serve.agreed(out, head + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n", head + b"\r\nab")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("fields", [(), (length(9),)])
async def test_a_client_can_see_that_a_response_was_cut(serve, old, fields):
    """Chunks and content-length show it. A response without either is cut by a reset."""

    async def app(scope, receive, send):
        await send(start(200, *fields))
        await send(part(b"half", more=True))
        raise LookupError

    client = await serve(app)
    await client.send((OLD if old else GET) % b"")
    out, end = await client.out()
    assert b"half" in out
    framed = b"content-length" in out or b"transfer-encoding" in out
    assert framed or end == "reset"
    assert b"0\r\n\r\n" not in out
    assert len(serve.lines) == 1


async def test_the_date_has_the_right_form_and_is_first(serve):
    """The form is that of RFC 9110 5.6.7."""
    client = await serve(Echo())
    answer = await client.get()
    assert answer.fields[0][0] == b"date"
    date = answer[b"date"].decode()
    parsed = email.utils.parsedate_to_datetime(date)
    assert email.utils.format_datetime(parsed, usegmt=True) == date


async def test_the_date_advances(fresh):
    if fresh.kind != "custody":
        pytest.skip("one kind is enough")
    await fresh.start()
    client = await fresh(Echo())
    dates = {(await client.get())[b"date"]}
    await asyncio.sleep(1.1)
    dates.add((await client.get())[b"date"])
    first, second = (email.utils.parsedate_to_datetime(date.decode()) for date in sorted(dates))
    assert 1 <= (second - first).total_seconds() <= 2


async def test_no_server_field_is_sent(serve):
    """uvicorn would send its name; fdpass switches that off."""
    client = await serve(Echo())
    answer = await client.get()
    assert (answer[b"server"], answer.names) == (None, [b"content-length"])


async def test_a_date_of_the_application(serve):
    """uvicorn sends its own date as well. Better: the application's date alone."""
    client = await serve(sends(start(200, (b"date", b"then"), length(0)), part()))
    answer = await client.get()
    dates = answer.all(b"date")
    assert dates[-1] == b"then"
    serve.agreed(len(dates), 2, 1)


async def test_a_server_of_the_application(serve):
    client = await serve(sends(start(200, (b"Server", b"mine"), length(0)), part()))
    assert (await client.get()).all(b"server") == [b"mine"]


@pytest.mark.parametrize("first", [b"\r\n", b"\r\n\r\n", b"\n"])
async def test_empty_lines_before_a_request_are_ignored(serve, first):
    app = Echo()
    client = await serve(app)
    await client.send(first + GET % b"")
    assert (await client.answer()).body == b"ok"
    await client.send(first + GET % b"")
    assert (await client.answer()).body == b"ok"
    assert serve.lines == []


# Time


async def test_an_idle_connection_ends_after_keep_alive(fresh):
    await fresh.start(keep_alive=2.0)
    client = await fresh(Echo())
    loop = asyncio.get_running_loop()
    since = loop.time()  # before the response, of which the client may learn late
    assert (await client.get()).body == b"ok"
    assert await client.ended()
    assert loop.time() - since > 1.9
    assert fresh.lines == []


async def test_keep_alive_starts_anew_with_each_response(fresh):
    await fresh.start(keep_alive=2.0)
    client = await fresh(Echo())
    for _ in range(3):
        assert (await client.get()).body == b"ok"
        await asyncio.sleep(1)
    assert (await client.get()).body == b"ok"
    assert await client.ended()


async def test_keep_alive_does_not_end_a_request_in_progress(fresh):
    app = Steps()
    await fresh.start(keep_alive=1.0)
    client = await fresh(app)
    for _ in range(2):
        await client.request()
        call = await app.next()
        await asyncio.sleep(2)
        await call.answer()
        assert (await client.answer()).body == b"ok"
    assert await client.ended()


@pytest.mark.parametrize("sent", [b"", b"GET / HTT"], ids=["nothing", "a part of a head"])
async def test_keep_alive_does_not_end_a_connection_whose_next_request_is_due(fresh, sent):
    """With fdpass, --header-timeout does."""
    await fresh.start(keep_alive=1.0)
    client = await fresh(Echo())
    if sent:
        await client.get()
        await client.send(sent)
    assert not await ends_in_time(client)


async def test_keep_alive_after_an_empty_line(fresh):
    """uvicorn waits for ever: the line stops keep-alive, and nothing starts it again."""
    await fresh.start(keep_alive=1.0)
    client = await fresh(Echo())
    await client.get()
    await client.send(b"\r\n")
    assert await ends_in_time(client) is not fresh.reference


async def test_keep_alive_after_an_early_response_and_the_rest_of_its_request(fresh):
    """uvicorn waits for ever: the rest of the body stops keep-alive, and nothing starts it again."""
    app = Steps()
    await fresh.start(keep_alive=1.0)
    client = await fresh(app)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
    await (await app.next()).answer()
    await client.answer()
    await client.send(b"56789")
    assert await ends_in_time(client) is not fresh.reference


async def ends_in_time(client):
    """Whether the server ends the connection within four times its keep-alive."""
    ending = asyncio.create_task(client.rest())
    await asyncio.sleep(4)
    ended = ending.done()
    ending.cancel()
    await asyncio.wait([ending])
    return ended


async def test_keep_alive_after_an_early_response_whose_request_does_not_end(fresh):
    """The connection ends, although a body is still incomplete."""
    app = Steps()
    await fresh.start(keep_alive=1.0)
    client = await fresh(app)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
    await (await app.next()).answer()
    await client.answer()
    assert await client.ended()


async def test_keep_alive_does_not_cut_a_slow_download(fresh):
    """The application is done, and its client has still to read the response out of the server's buffers.

    Over TLS uvicorn cuts it: keep-alive closes the transport, and asyncio aborts it 30 seconds later.
    """
    size = 8 << 20
    await fresh.start(keep_alive=1.0)
    client = await fresh(sends(start(200, length(size)), part(bytes(size))), room=1 << 14)
    await client.request()
    await fresh.over()
    await asyncio.sleep(35 if fresh.kind == "tls" else 4)
    cut = await client.is_cut()
    assert not cut


async def test_a_connection_whose_rest_of_a_body_comes_no_further_ends_after_keep_alive(fresh):
    """The response was sent before the body; then a part of the body came, and the client fell silent."""
    await fresh.start(keep_alive=2.0)
    app = Steps()
    client = await fresh(app)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
    await (await app.next()).answer()
    await client.answer()
    if fresh.reference:
        pytest.skip("uvicorn keeps the connection")
    await client.send(b"a")
    assert await client.ended()
