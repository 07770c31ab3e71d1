"""Responses: the messages that an application sends, right or wrong, and the bytes that the client gets."""

import pytest

from ._apps import then_last
from ._fields import FIELDS
from ._responses import BODY, CODING, HEAD, LENGTH, ORDER, STATUS

EACH_KIND = True
TABLES = {"order": ORDER, "status": STATUS, "fields": FIELDS, "length": LENGTH, "coding": CODING, "body": BODY}
ROWS = [(table, name) for table, rows in TABLES.items() for name in rows]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_FAULTS = {("custody", "body", "text")}


def application(messages, seen):
    """An application that sends the messages; ``seen`` gets the number of the message for which `send` raises."""

    async def app(scope, receive, send):
        for number, message in enumerate(messages):
            try:
                assert await send(message) is None
            except Exception:
                seen.append(number)
                raise

    return then_last(app)


async def outcome(serve, case, request):
    seen = []
    client = await serve(application(case.messages, seen))
    await client.send(request)
    out, end = await client.outcome(serve.over)
    assert len(seen) <= 1
    return out, end, seen[0] if seen else None


def check(serve, case, found):
    serve.agreed(found, (case.out, case.end, case.fails), *case.better)
    lines = serve.lines
    assert len(lines) == (found[2] is not None), lines
    assert all("Exception in ASGI application" in line for line in lines if serve.reference)


@pytest.mark.parametrize(("table", "name"), ROWS, ids=[f"{table}: {name}" for table, name in ROWS])
async def test_a_response(serve, table, name):
    if (serve.kind, table, name) in _FAULTS and serve.old:
        pytest.xfail("a part that cannot be joined stays in the transport, and the connection does not end")
    case = TABLES[table][name]
    check(serve, case, await outcome(serve, case, GET))


@pytest.mark.parametrize("name", HEAD)
async def test_a_response_to_head(serve, name):
    """It has the fields of a response to GET, and no body, whatever the application sends."""
    case = HEAD[name]
    check(serve, case, await outcome(serve, case, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"))
