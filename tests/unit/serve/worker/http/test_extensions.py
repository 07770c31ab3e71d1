"""ASGI's extensions of HTTP: what a server offers in ``scope["extensions"]`` works as ASGI says."""

import asyncio
import os

import pytest

from ._apps import Steps, length, part, start, then_last
from ._client import turns

PATHSEND, TRAILERS, HINT = "http.response.pathsend", "http.response.trailers", "http.response.early_hint"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SIZES = [0, 1, 5000, 3 << 20]


async def offered(serve, name):
    """Skip the test if the server does not offer the extension."""
    app = Steps()
    client = await serve(app)
    await client.request()
    call = await app.next()
    await call.answer()
    await client.answer()
    client.close()
    if name not in call.scope.get("extensions", {}):
        pytest.skip(f"{serve.kind} does not offer {name}")


async def test_messages_of_extensions_that_are_not_offered_are_refused(serve):
    """`send` raises for them, as for any unknown message."""
    messages = {
        PATHSEND: {"type": PATHSEND, "path": os.devnull},
        TRAILERS: {"type": TRAILERS, "headers": [], "more_trailers": False},
        HINT: {"type": HINT, "links": [b"</style.css>; rel=preload"]},
        "http.response.debug": {"type": "http.response.debug", "info": {}},
        "http.response.push": {"type": "http.response.push", "path": "/", "headers": []},
        "http.response.zerocopysend": {"type": "http.response.zerocopysend", "file": 0},
    }
    refused = []

    async def app(scope, receive, send):
        tried = [name for name in messages if name not in scope.get("extensions", {})]
        if HINT in tried:
            tried.remove(HINT)
            tried.append(HINT)
        await send(start(200, length(2)))
        for name in tried:
            try:
                await send(messages[name])
            except Exception:
                refused.append(name)
        assert refused == tried
        await send(part(b"ok"))

    client = await serve(app)
    assert (await client.get()).body == b"ok"


# http.response.pathsend


@pytest.fixture
def file(tmp_path):
    def make(size):
        path = tmp_path / "file"
        path.write_bytes(os.urandom(size))
        return str(path), path.read_bytes()

    return make


def sends_file(path, *fields, status=200):
    async def app(scope, receive, send):
        await send(start(status, *fields))
        await send({"type": PATHSEND, "path": path})

    return then_last(app)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("told", [False, True])
async def test_pathsend_sends_a_file_as_the_body(serve, file, size, told):
    """The file goes out whole, with a content-length or in chunks, and the connection stays open."""
    await offered(serve, PATHSEND)
    path, content = file(size)
    client = await serve(sends_file(path, *([length(size)] if told else [])))
    for _ in range(2):
        answer = await client.get()
        assert answer.body == content
        assert told == (answer.sizes is None)


async def test_pathsend_sends_no_body_to_head(serve, file):
    await offered(serve, PATHSEND)
    path, _ = file(5000)
    client = await serve(sends_file(path, length(5000)))
    assert (await client.get(method=b"HEAD"))[b"content-length"] == b"5000"
    assert (await client.get(b"/last")).body == b"last"


async def test_pathsend_to_http_1_0(serve, file):
    await offered(serve, PATHSEND)
    path, content = file(5000)
    client = await serve(sends_file(path, length(5000)))
    answer = await client.get(version=b"1.0")
    assert answer.body == content


@pytest.mark.parametrize("path", ["missing", "folder", "relative"])
async def test_pathsend_of_a_path_that_cannot_be_sent(serve, tmp_path, path):
    """`send` raises; the client gets no body: a 500, or a cut response."""
    await offered(serve, PATHSEND)
    path = {"missing": str(tmp_path / "none"), "folder": str(tmp_path), "relative": "none"}[path]
    client = await serve(sends_file(path, length(5)))
    await client.send(GET)
    out, end = await client.outcome(serve.over)
    assert end == "ended"
    assert not out or b"500" in out or out.endswith(b"\r\n\r\n")
    assert len(serve.lines) == 1


@pytest.mark.parametrize("told", [10, 10_000])
async def test_pathsend_of_a_file_of_another_length(serve, file, told):
    """The file has grown or shrunk: the response has the stated length, or the client sees that it was cut."""
    await offered(serve, PATHSEND)
    path, content = file(5000)
    client = await serve(sends_file(path, length(told)))
    await client.send(GET)
    out, end = await client.outcome(serve.over)
    body = out.partition(b"\r\n\r\n")[2]
    assert content.startswith(body)
    assert len(body) <= told
    assert end == ("kept" if len(body) == told else "ended")


async def test_pathsend_to_a_slow_client(serve, file):
    """`send` waits, and the server serves other connections meanwhile."""
    await offered(serve, PATHSEND)
    size = 8 << 20
    path, content = file(size)
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.request()
    call = await app.next()
    await call.send(start(200, length(size)))
    sending = serve.task(call.send({"type": PATHSEND, "path": path}))
    await turns(200)
    assert not sending.done()
    other = await serve.connect()
    answering = serve.task(other.get())
    await (await app.next()).answer()
    assert (await answering).body == b"ok"
    assert (await client.answer()).body == content
    await sending
    call.end()


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_pathsend_closes_its_file_when_the_client_goes(serve, file, end):
    await offered(serve, PATHSEND)
    path, _ = file(8 << 20)
    app = Steps()
    client = await serve(app, room=1 << 14)
    await client.request()
    call = await app.next()
    await call.send(start(200, length(8 << 20)))
    sending = serve.task(call.send({"type": PATHSEND, "path": path}))
    await turns(100)
    getattr(client, end)()
    await asyncio.wait([sending])
    assert sending.exception() is None or isinstance(sending.exception(), OSError)
    assert (await call.receive())["type"] == "http.disconnect"
    call.end()
    await serve.over()
    assert serve.lines == []


async def test_pathsend_ends_the_response(serve, file):
    await offered(serve, PATHSEND)
    path, content = file(100)
    refused = []

    async def app(scope, receive, send):
        await sends_file(path, length(100))(scope, receive, send)
        for message in ({"type": PATHSEND, "path": path}, part(b"more")):
            try:
                await send(message)
            except RuntimeError:
                refused.append(message)

    client = await serve(app)
    assert (await client.get()).body == content
    await serve.over()
    assert len(refused) == 2


# http.response.trailers


@pytest.mark.parametrize("wanted", [True, False])
async def test_trailers_follow_the_last_chunk(serve, wanted):
    """To a client that did not send ``TE: trailers`` the server may leave them out."""
    await offered(serve, TRAILERS)

    async def app(scope, receive, send):
        await send({**start(), "trailers": True})
        await send(part(b"body"))
        await send({"type": TRAILERS, "headers": [(b"x-sum", b"1")], "more_trailers": True})
        await send({"type": TRAILERS, "headers": [(b"x-more", b"2")], "more_trailers": False})

    client = await serve(then_last(app))
    answer = await client.get(b"/", *([b"TE: trailers"] if wanted else []))
    assert answer.body == b"body"
    assert answer.trailers in [((b"x-sum", b"1"), (b"x-more", b"2")), *([] if wanted else [()])]
    assert (await client.get(b"/last")).body == b"last"


@pytest.mark.parametrize("field", [(b"x-a", b"a\r\nb: c"), (b"x a", b"b"), ("x-a", b"b")])
async def test_an_invalid_trailer_is_refused(serve, field):
    await offered(serve, TRAILERS)

    async def app(scope, receive, send):
        await send({**start(), "trailers": True})
        await send(part(b"body"))
        await send({"type": TRAILERS, "headers": [field]})

    client = await serve(app)
    await client.request(b"/", b"TE: trailers")
    assert await client.is_cut()
    assert len(serve.lines) == 1


# http.response.early_hint


async def test_early_hints_precede_the_response(serve):
    await offered(serve, HINT)
    links = [b"</style.css>; rel=preload; as=style", b"</script.js>; rel=preload; as=script"]

    async def app(scope, receive, send):
        await send({"type": HINT, "links": links})
        await send(start(200, length(2)))
        await send(part(b"ok"))

    client = await serve(app)
    await client.request()
    hint = await client.answer()
    assert (hint.status, hint.all(b"link")) == (103, links)
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"ok")
    await client.request(version=b"1.0")  # HTTP/1.0 knows no 103
    assert (await client.answer()).status == 200
