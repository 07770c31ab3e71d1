"""`limited` makes an ASGI application that answers 503 while too many requests are in progress."""

from __future__ import annotations

import logging
import time
from typing import Any

from fdpass._words import counted
from fdpass.serve.worker.request_count import RequestCount

log = logging.getLogger("fdpass.serve")
_BODY = b"Too many requests are in progress."
_HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"%d" % len(_BODY)),
    (b"connection", b"close"),
]
_QUIET_SECONDS = 10.0  # between two log lines


def limited(app: Any, count: RequestCount, most: int) -> Any:
    """Make an ASGI application that calls ``app``, unless more than ``most`` requests are in progress.

    Open WebSockets count as requests. A WebSocket's handshake is not refused, nor is a stream that another worker
    had begun.

    Args:
        app: The application.
        count: The requests of this worker; the one for which the application is called is counted already.
        most: See above.
    """
    quiet_until, requests = 0.0, counted(most, "request")

    async def answer(scope: Any, receive: Any, send: Any) -> Any:
        nonlocal quiet_until
        if (
            count.in_progress <= most
            or scope["type"] != "http"
            or scope["extensions"].get("fdpass", {}).get("resumed")
        ):
            return await app(scope, receive, send)
        if time.monotonic() >= quiet_until:
            quiet_until = time.monotonic() + _QUIET_SECONDS
            log.warning("--limit-concurrency: %s in progress, the most there may be; others get a 503", requests)
        await send({"type": "http.response.start", "status": 503, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _BODY})
        return None

    return answer
