"""Servers that retire or end: what they do with idle connections, and with requests in progress.

Without custody a retiring server closes idle connections; in custody it returns them, and another worker goes on.
"""

import asyncio
import contextlib

import pytest

from fdpass.serve.shared.slots import ATTEMPT, WORDS

from ._apps import Echo, Steps, length, part, start
from ._client import turns
from .test_upgrades import HANDSHAKE, Socket, frame, opened, reply

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:websockets\..* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]
GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


async def moved(fresh, client):
    """Check that the connection is closed, or in custody returned and served by another engine."""
    if fresh.kind == "custody":
        (passed,) = fresh.server.returned
        fresh.server.returned.clear()
        await fresh.server.restart()
        fresh.server.take_again(passed)
        fresh.server.switch.app = Echo()
        assert (await client.get()).body == b"ok"
    else:
        assert await client.ended()
        assert fresh.server.returned in ([], ())


@pytest.mark.parametrize("requests", [0, 1, 3])
async def test_an_idle_connection(fresh, requests):
    await fresh.start()
    client = await fresh(Echo())
    for _ in range(requests):
        assert (await client.get()).body == b"ok"
    retiring = fresh.task(fresh.server.retire())
    if fresh.kind != "custody":
        assert await client.ended()
    await retiring
    await moved(fresh, client)
    assert fresh.lines == []


@pytest.mark.parametrize("begun", [False, True])
async def test_a_request_in_progress_is_finished(fresh, begun):
    """Without custody a response that has not started says ``connection: close``."""
    app = Steps()
    await fresh.start()
    client = await fresh(app)
    await client.request()
    call = await app.next()
    if begun:
        await call.send(start(200, length(2)))
    retiring = fresh.task(fresh.server.retire())
    await fresh.server.told.wait()
    await turns()
    assert not retiring.done()
    if not begun:
        await call.send(start(200, length(2)))
    await call.send(part(b"ok"))
    call.end()
    answer = await client.answer()
    assert answer.body == b"ok"
    assert answer[b"connection"] == (None if begun or fresh.kind == "custody" else b"close")
    if fresh.kind != "custody":
        assert await client.ended()
    await retiring
    await moved(fresh, client)
    assert fresh.lines == []


async def test_all_requests_that_have_arrived_are_finished(fresh):
    app = Steps()
    await fresh.start()
    client = await fresh(app)
    await client.send(GET % b"/1" + GET % b"/2")
    first = await app.next()
    retiring = fresh.task(fresh.server.retire())
    await fresh.server.told.wait()
    await turns()
    await first.answer()
    answer = await client.answer()
    assert (answer.body, answer[b"connection"]) == (b"ok", None)
    second = await app.next()
    assert second.scope["path"] == "/2"
    await second.answer()
    answer = await client.answer()
    assert answer.body == b"ok"
    assert answer[b"connection"] == (None if fresh.kind == "custody" else b"close")
    if fresh.kind != "custody":
        assert await client.ended()
    await retiring
    await moved(fresh, client)


async def test_a_request_that_waits_in_the_kernel_is_served(fresh):
    """fdpass serves it or returns the connection; uvicorn would close the connection."""
    if fresh.reference:
        pytest.skip("uvicorn retires at its next tick, and has read the request by then")
    app = Echo()
    await fresh.start()
    client = await fresh(app)
    await client.get()
    await turns()
    retiring = fresh.task(fresh.server.retire())
    await client.send(GET % b"/2")  # before the next turn of the server's loop
    if fresh.kind == "custody":
        await retiring
        if fresh.server.returned:
            (passed,) = fresh.server.returned
            fresh.server.returned.clear()
            await fresh.server.restart()
            fresh.server.take_again(passed)
    assert (await client.answer()).body == b"ok"
    if fresh.kind != "custody":
        assert await client.ended()
    await retiring


@pytest.mark.parametrize("sends", [True, False])
async def test_a_client_that_has_just_connected_may_still_send_its_first_request(fresh, sends):
    if fresh.reference:
        pytest.skip("uvicorn closes such a connection")
    await fresh.start()
    client = await fresh(Echo())
    await turns()
    stopping = fresh.task(fresh.server.engine.finish(30.0, retiring=False))
    await turns()
    if sends:
        await client.send(GET % b"/")
        answer = await client.answer()
        assert (answer.body, answer[b"connection"]) == (b"ok", b"close")
    assert await client.ended()
    await stopping


async def test_half_a_head(fresh):
    """uvicorn closes the connection as an idle one. Better: the server waits for the request, as in custody."""
    app = Echo()
    await fresh.start()
    client = await fresh(app)
    await client.send(b"GET / HTTP/1.1\r\nHo")
    await turns()
    retiring = fresh.task(fresh.server.retire())
    await fresh.server.told.wait()
    await turns(5)
    with contextlib.suppress(OSError):
        await client.send(b"st: x\r\nConnection: close\r\n\r\n")
    out, _ = await client.out()
    if fresh.kind == "custody":
        assert out.count(b"200 OK") == 1
    else:
        fresh.agreed(out.count(b"200 OK"), 0, 1)
    await retiring


async def test_half_a_body(fresh):
    app = Echo()
    await fresh.start()
    client = await fresh(app)
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
    await fresh.server.switch.called.wait()
    retiring = fresh.task(fresh.server.retire())
    await fresh.server.told.wait()
    await turns()
    await client.send(b"dy")
    assert (await client.answer()).body == b"body"
    if fresh.kind != "custody":
        assert await client.ended()
    await retiring
    await moved(fresh, client)


async def test_the_lifespan_ends_after_all_calls(fresh):
    """The lifespan ends after all calls, also those that work on after their response."""
    app = Steps()
    await fresh.start()
    client = await fresh(app)
    await client.request()
    call = await app.next()
    retiring = fresh.task(fresh.server.retire())
    await call.send(start(200, length(2)))
    await call.send(part(b"ok"))
    assert (await client.answer()).body == b"ok"
    if fresh.kind != "custody":
        assert await client.ended()
    await asyncio.sleep(1)
    assert fresh.server.switch.lifespan == ["lifespan.startup"]
    call.end()
    await retiring
    assert fresh.server.switch.lifespan == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("end", [False, True])
async def test_a_request_that_takes_too_long_is_cut(fresh, begun, end):
    """The application is cancelled. The client gets 500, or sees that its response was cut."""
    seen, going = [], asyncio.Event()

    async def app(scope, receive, send):
        if begun:
            await send(start(200, length(2)))
        going.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    await fresh.start()
    client = await fresh(app)
    await client.request()
    await going.wait()
    ending = fresh.task(fresh.server.end() if end else fresh.server.retire(1.0))
    if begun:
        assert await client.is_cut()
    else:
        answer = await client.answer()
        assert (answer.status, answer[b"connection"]) == (500, b"close")
        assert await client.ended()
    await ending
    assert seen == ["cancelled"]
    assert fresh.server.switch.lifespan[-1] == "lifespan.shutdown"


async def test_an_endless_stream_is_cut_after_the_graceful_time(fresh):
    going = asyncio.Event()

    async def app(scope, receive, send):
        await send(start())
        await send(part(b"data: 1\n\n", more=True))
        going.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    await fresh.start()
    client = await fresh(app)
    await client.request()
    await client.until(b"data: 1\n\n")
    await going.wait()
    retiring = fresh.task(fresh.server.retire(2.0))
    out, _ = await client.out()
    assert b"0\r\n\r\n" not in out
    await retiring


@pytest.mark.parametrize("begun", [False, True])
async def test_what_an_application_sends_after_the_graceful_time_reaches_no_client(fresh, begun):
    """The application gets ``http.disconnect``, ends by itself, and could take its half list for a whole one."""
    if fresh.reference:
        pytest.skip("uvicorn cancels at once")
    seen, going = [], asyncio.Event()

    async def app(scope, receive, send):
        if begun:
            await send(start())
            await send(part(b"1", more=True))
        going.set()
        assert (await receive())["type"] == "http.request"
        seen.append((await receive())["type"])
        if not begun:
            await send(start(200, length(1)))
        await send(part(b"2"))
        seen.append("returned")

    await fresh.start()
    client = await fresh(app)
    await client.request()
    await going.wait()
    await fresh.server.retire(1.0)
    if begun:
        assert await client.is_cut()
    else:
        assert (await client.answer()).status == 500
    assert seen == ["http.disconnect", "returned"]
    (line,) = fresh.lines
    assert "cut after 1 s of graceful time (--graceful-timeout): GET /, client " in line


async def test_a_library_that_hooks_into_uvicorn_learns_of_the_end(fresh, monkeypatch):
    """As sse-starlette does; its streams then return in their middle, which is no failure."""
    if fresh.reference:
        pytest.skip("the tests end uvicorn without a signal")
    told, going = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr("uvicorn.Server.handle_exit", lambda *_: told.set())

    async def app(scope, receive, send):
        await send(start())
        await send(part(b"data: 1\n\n", more=True))
        going.set()
        await told.wait()

    await fresh.start()
    client = await fresh(app)
    await client.request()
    await going.wait()
    await fresh.server.retire(30.0)
    assert await client.is_cut()
    assert fresh.lines == []


async def test_a_websocket_is_closed_with_1012(fresh):
    """uvicorn closes it at once; fdpass after the graceful time."""
    pytest.importorskip("websockets")
    app = Socket()
    await fresh.start()
    client = await fresh(app)
    await client.send(HANDSHAKE)
    await opened(client)
    retiring = fresh.task(fresh.server.retire(3.0))
    if not fresh.reference:
        await asyncio.sleep(1)
        await client.send(frame(b"here"))
        assert await client.exactly(6) == reply(b"here")
    close = await client.exactly(4)
    assert close == reply((1012).to_bytes(2), 8)
    await client.send(frame((1012).to_bytes(2), 8))
    await retiring
    assert (app.messages[-1]["type"], app.messages[-1]["code"]) == ("websocket.disconnect", 1012)


async def test_a_tls_client_that_does_not_answer_close_notify(fresh):
    """Such a client does not keep the server from ending."""
    if fresh.kind != "tls":
        pytest.skip("of TLS only")
    await fresh.start(keep_alive=1.0)
    client = await fresh(Echo())
    await client.get()
    await fresh.server.retire(2.0)
    if fresh.raised and fresh.old:
        fresh.raised.clear()
        pytest.xfail("keep-alive asks for the socket of a transport that was closed twice, and fails")


async def test_connections_in_all_states_at_once(fresh):
    """One connection is idle, one is new, one is busy, and one waits for a body."""
    app = Steps()
    await fresh.start()
    idle = await fresh(app)
    await idle.request()
    await (await app.next()).answer()
    await idle.answer()
    await fresh.connect()
    busy = await fresh.connect()
    await busy.request(b"/busy")
    call = await app.next()
    sending = await fresh.connect()
    await sending.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
    body = await app.next()
    retiring = fresh.task(fresh.server.retire())
    await fresh.server.told.wait()
    await turns()
    await call.answer()
    assert (await busy.answer()).body == b"ok"
    await sending.send(b"dy")
    while (await body.receive())["more_body"]:
        pass
    await body.answer()
    assert (await sending.answer()).body == b"ok"
    if fresh.kind != "custody":
        for each in fresh.clients:
            assert await each.ended()
    await retiring
    assert len(fresh.server.returned) == (4 if fresh.kind == "custody" else 0)


async def test_the_end_of_a_server_ends_its_connections(fresh):
    await fresh.start()
    client = await fresh(Echo())
    await client.get()
    other = await fresh.connect()
    ending = fresh.task(fresh.server.end())
    assert await client.ended()
    assert await other.ended()
    await ending
    assert fresh.server.returned in ([], ())


async def _handed_on(fresh, app, read, attempt):
    """A client whose connection a worker has given back, and another takes with these bytes, after a death."""
    if fresh.kind != "custody":
        pytest.skip("only custody hands on")
    await fresh.start()
    client = await fresh(app)
    assert (await client.get()).body == b"ok"
    await fresh.server.retire()
    (passed,) = fresh.server.returned
    fresh.server.returned.clear()
    await fresh.server.restart()
    passed.read = read
    fresh.server._slots[passed.slot * WORDS + ATTEMPT] = attempt
    fresh.server.take_again(passed)
    return client, passed.slot


async def test_a_request_behind_empty_lines_that_were_handed_on_is_at_its_first_attempt(fresh):
    """A worker died with the empty lines alone."""
    app = Echo()
    client, _ = await _handed_on(fresh, app, b"\r\n\r\n", 1)
    await client.get()
    assert app.scope["extensions"]["fdpass"]["attempt"] == 0


async def test_only_a_repeated_request_is_told_its_attempt(fresh):
    """All requests of a connection have the same dict otherwise."""
    app = Echo()
    client, slot = await _handed_on(fresh, app, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2)
    assert (await client.answer()).body == b"ok"
    assert app.scope["extensions"]["fdpass"] == {"attempt": 2, "slot": slot}
    for _ in range(2):
        assert (await client.get()).body == b"ok"
        assert app.scope["extensions"]["fdpass"] == {"attempt": 0, "slot": slot}
