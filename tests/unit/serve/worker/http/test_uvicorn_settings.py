"""Settings that uvicorn has, too: both servers do the same with them."""

import asyncio

import pytest

from ._apps import Echo, length, part, start
from ._client import turns

GET = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_the_path_begins_with_the_root_path(fresh):
    await fresh.start(root_path="/shop")
    app = Echo()
    client = await fresh(app)
    for _ in range(2):  # fdpass knows the headers of the second request
        await client.send(GET % b"/a%20b?c=d")
        assert (await client.answer()).status == 200
        assert app.scope["root_path"] == "/shop"
        assert app.scope["path"] == "/shop/a b"
        assert app.scope["raw_path"] == b"/shop/a%20b"
        assert app.scope["query_string"] == b"c=d"


def options(fresh, headers, **more):
    """The settings that add these headers."""
    added = (
        {"headers": headers} if fresh.reference else {"header": [f"{name}: {value}" for name, value in headers]}
    )
    return added | more


async def test_headers_are_added_to_every_response_also_to_that_of_a_request_that_is_refused(fresh):
    await fresh.start(**options(fresh, [("x-frame-options", "DENY"), ("x-frame-options", "two")]))
    client = await fresh(Echo())
    for _ in range(2):
        await client.send(GET % b"/")
        answer = await client.answer()
        assert answer.all(b"x-frame-options") == [b"DENY", b"two"]
        assert answer[b"date"]
    await client.send(b"GET / NONSENSE\r\n\r\n")
    answer = await client.answer()
    assert answer.status == 400
    assert answer.all(b"x-frame-options") == [b"DENY", b"two"]
    assert fresh.lines


async def test_added_headers_are_sent_with_a_date_of_the_application(fresh):
    await fresh.start(**options(fresh, [("x-a", "b")]))
    client = await fresh(Echo((b"date", b"never")))
    await client.send(GET % b"/")
    answer = await client.answer()
    assert answer[b"x-a"] == b"b"
    assert b"never" in answer.all(b"date")
    fresh.agreed(len(answer.all(b"date")), 2, 1)


async def test_an_application_that_fails_gets_the_headers_too(fresh):
    async def app(scope, receive, send):
        raise ZeroDivisionError

    await fresh.start(**options(fresh, [("x-a", "b")]))
    client = await fresh(app)
    await client.send(GET % b"/")
    answer = await client.answer()
    assert answer.status == 500
    assert answer[b"x-a"] == b"b"
    assert fresh.lines


async def test_the_date_can_be_left_out(fresh):
    await fresh.start(**({"date_header": False} if fresh.reference else {"no_date_header": True}))
    client = await fresh(Echo())
    await client.send(GET % b"/")
    assert (await client.answer())[b"date"] is None
    await client.send(b"GET / NONSENSE\r\n\r\n")
    assert (await client.answer())[b"date"] is None
    assert fresh.lines


async def test_a_request_beyond_the_limit_of_concurrency_gets_a_503(fresh):
    """uvicorn counts connections as well, the one of the request included, and so serves one request less."""
    limit = 2
    go = asyncio.Event()

    async def app(scope, receive, send):
        await go.wait()
        await send(start(200, length(2)))
        await send(part(b"ok"))

    await fresh.start(limit_concurrency=limit)
    served = limit - 1 if fresh.reference else limit
    clients = [await fresh(app) for _ in range(served)]
    try:
        for client in clients:
            await client.send(GET % b"/")
            await turns()
        last = await fresh(app)
        await last.send(GET % b"/")
        answer = await last.answer()
        assert answer.status == 503
        assert answer[b"connection"] == b"close"
        assert await last.rest() == b""
    finally:
        go.set()
    assert [(await client.answer()).status for client in clients] == [200] * served
    await clients[0].send(GET % b"/")
    assert (await clients[0].answer()).status == 200
    assert fresh.lines


FORWARDED = b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.9, %b\r\nX-Forwarded-Proto: https\r\n\r\n"


async def test_what_a_trusted_proxy_says_about_the_client_is_in_the_scope(fresh):
    await fresh.start(**({"proxy_headers": True} if fresh.reference else {}))
    app = Echo()
    client = await fresh(app)
    for _ in range(3):  # fdpass knows the headers from the second one on
        for address, expected in {b"192.0.2.1:55": ("192.0.2.1", 55), b"2001:db8::1": ("2001:db8::1", 0)}.items():
            await client.send(FORWARDED % address)
            assert (await client.answer()).status == 200
            assert app.scope["client"] == expected
            assert app.scope["scheme"] == "https"
    await client.send(GET % b"/")
    await client.answer()
    assert app.scope["client"][0] == "127.0.0.1"
    assert app.scope["scheme"] == ("https" if fresh.kind == "tls" else "http")


async def test_of_a_peer_that_is_not_trusted_nothing_is_believed(fresh):
    trusted = "192.0.2.0/24"
    await fresh.start(**({"proxy_headers": True} if fresh.reference else {}), forwarded_allow_ips=trusted)
    app = Echo()
    client = await fresh(app)
    for _ in range(2):
        await client.send(FORWARDED % b"192.0.2.1")
        await client.answer()
        assert app.scope["client"][0] == "127.0.0.1"
        assert app.scope["scheme"] == ("https" if fresh.kind == "tls" else "http")


async def test_a_host_from_the_proxy_replaces_the_header_also_of_known_headers(fresh):
    if fresh.reference:
        pytest.skip("uvicorn reads no X-Forwarded-Host")
    await fresh.start(forwarded_headers="x-forwarded")
    app = Echo()
    client = await fresh(app)
    for _ in range(3):
        await client.send(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Host: evil, shop:80\r\n\r\n") % b"/")
        await client.answer()
        assert [value for name, value in app.scope["headers"] if name == b"host"] == [b"shop:80"]
