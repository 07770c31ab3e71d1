"""`limited`: a 503 while too many requests are in progress, but not for what is open already."""

import asyncio

import pytest

from fdpass.serve.worker.limit import limited
from fdpass.serve.worker.request_count import RequestCount


@pytest.mark.parametrize(
    ("scope", "in_progress", "called"),
    [
        ({"type": "http", "extensions": {}}, 2, True),
        ({"type": "http", "extensions": {}}, 3, False),
        ({"type": "http", "extensions": {"fdpass": {"attempt": 0}}}, 3, False),
        ({"type": "http", "extensions": {"fdpass": {"resumed": 1}}}, 3, True),  # the stream of another worker
        ({"type": "websocket"}, 3, True),
        ({"type": "lifespan"}, 3, True),
    ],
)
def test_which_calls_reach_the_application(scope, in_progress, called, caplog):
    calls, sent = [], []

    async def app(scope, receive, send):
        calls.append(scope)

    async def send(message):
        sent.append(message)

    count = RequestCount()
    count.begun = in_progress
    application = limited(app, count, 2)
    for _ in range(2):
        asyncio.run(application(scope, None, send))
    assert len(calls) == (2 if called else 0)
    if not called:
        assert [message.get("status") for message in sent] == [503, None] * 2
        assert caplog.text.count("others get a 503") == 1
