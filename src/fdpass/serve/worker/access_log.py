"""`wrap` makes an ASGI application whose requests are logged in the access log."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fdpass.serve.shared.access_log import AccessLog

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_FINAL_MESSAGES = {  # of a response, unless more_body is set
    "http.response.body",
    "http.response.zerocopysend",
    "http.response.pathsend",
    "websocket.close",
    "websocket.http.response.body",
}


def wrap(app: App, log: AccessLog) -> App:
    """Make an ASGI application that does what ``app`` does, and logs each request and each WebSocket.

    A request is logged when ``app`` has sent the last part of the response, or else when ``app`` ends. The status
    is that of the response; if no response began it is 500, as the server then answers. The size is that of the
    body as ``app`` sent it (the server leaves it out for HEAD), with the files of ``http.response.pathsend``. A
    WebSocket is logged when ``app`` closes it or ends: with 101 if ``app`` accepted it, 403 if not, or the status
    of the response that ``app`` sent instead. A WebSocket or event stream that goes on in another worker is logged
    there, once it ends, and not here. Other scopes pass untouched.

    Args:
        app: The application.
        log: Gets the lines.
    """

    async def logged(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return await app(scope, receive, send)
        exchange = _Exchange(scope, send, log)
        try:
            return await app(scope, receive, exchange.send)
        finally:
            exchange.end()

    return logged


class _Exchange:
    """One request; watches the messages of its response."""

    __slots__ = ("_about", "_headers", "_log", "_logged", "_scope", "_send", "_size", "_start", "_status")

    def __init__(self, scope: MutableMapping[str, Any], send: Send, log: AccessLog) -> None:
        self._scope, self._send, self._log = scope, send, log
        self._status = self._size = 0
        self._headers: Any = ()
        self._logged = False
        self._about = scope.get("extensions", {}).get("fdpass", {})
        self._start = time.monotonic() - self._about.get("age", 0.0)

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            headers: Any = ()
            if self._log.needs_response and "headers" in message:
                headers = list(message["headers"])  # ASGI allows any iterable: an iterator can be read only once
                message = {**message, "headers": headers}
            await self._send(message)
            # Not before: if the server refuses the message, no response has begun.
            self._status, self._headers = message["status"], headers
            return
        if kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.close" and not self._status:
            self._status = 403  # with which the server then answers the handshake
        await self._send(message)
        if kind in {"http.response.body", "websocket.http.response.body"}:
            self._size += len(message.get("body", b""))
        elif kind == "http.response.pathsend":
            count = message.get("count")  # of a WSGI application's file
            with contextlib.suppress(OSError):  # it was removed after it was sent
                self._size += os.stat(message["path"]).st_size if count is None else count
        if kind in _FINAL_MESSAGES and not message.get("more_body", False):
            self.end()

    def end(self) -> None:
        if not (self._logged or self._about.get("moved")):
            self._logged = True
            seconds = time.monotonic() - self._start
            self._log.line(self._scope, self._status or 500, self._size, seconds, self._headers)
