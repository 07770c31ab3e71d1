"""WSGI: the application runs in threads, behind the HTTP/1.1 of `AsgiEngine`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from fdpass.serve.worker.engines import Job
from fdpass.serve.worker.engines.asgi import AsgiEngine
from fdpass.serve.worker.http.exchange import Exchange
from fdpass.serve.worker.wsgi.call import Call
from fdpass.serve.worker.wsgi.environ import Environs
from fdpass.serve.worker.wsgi.threads import Threads

_EXCHANGE = "fdpass.exchange"  # in a scope, for `_Bridge` alone


class WsgiEngine(AsgiEngine):
    """See `fdpass.serve.worker.engines.Engine`."""

    lifespan = "off"
    websocket = None  # a handshake is a request as any other

    def __init__(self, job: Job) -> None:
        settings = job.setup.config
        environs = Environs(underscores=settings.underscore_headers, threads=settings.threads)
        self._threads = Threads(
            job.app, environs, count=settings.threads, timeout=settings.request_timeout, leave=job.leave
        )
        super().__init__(replace(job, app=_Bridge(self._threads)))

    async def start(self) -> None:
        """Start the threads' supervision: there is no lifespan."""
        await super().start()
        self._threads.start()

    def start_exchange(self, exchange: Exchange) -> None:
        """See `HttpEngine`."""
        exchange.scope[_EXCHANGE] = exchange
        super().start_exchange(exchange)

    def start_exchange_soon(self, exchange: Exchange) -> None:
        """See `HttpEngine`."""
        exchange.scope[_EXCHANGE] = exchange
        super().start_exchange_soon(exchange)

    async def finish(self, seconds: float, *, retiring: bool) -> None:
        """See `fdpass.serve.worker.engines.Engine.finish`."""
        await super().finish(seconds, retiring=retiring)
        self._threads.stop()


class _Bridge:
    """An ASGI application: calls a WSGI application in a thread, and sends what that gives."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        exchange: Exchange = scope.pop(_EXCHANGE)
        known = None
        if exchange.whole:
            known = (await _next_part(receive))[0] if exchange.body else b""
        call = Call(exchange, known, self._threads.notify)
        self._threads.submit(call)
        try:
            await _serve(call, receive, send)
        except BaseException:
            call.abandon()
            raise
        error, call.error = call.error, None  # its traceback refers to the call
        if error is not None:
            raise error


async def _next_part(receive: Any) -> tuple[bytes, bool]:
    """The next part of the request's body, and whether more follows; b"" and True if no more will come."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"", True
        if message["body"] or not message["more_body"]:
            return message["body"], message["more_body"]


async def _serve(call: Call, receive: Any, send: Any) -> None:
    """Send and receive for a call, until its thread has left the application."""
    create_future = asyncio.get_running_loop().create_future
    started = complete = False
    while True:
        call.changed = False
        ended, over = call.ended, call.over  # before the queue is looked at, which may grow meanwhile
        if (call.parts or ended) and not complete:
            body = call.take()
            if not started:
                started = True
                await send(_start(call, len(body) if ended else None))
            await _send_body(call, body, send, more=not ended)
            complete = ended
        if call.asking:
            part, more = await _next_part(receive)
            call.answer(part, more=more)
        if over:
            return
        await call.wait(create_future)


def _start(call: Call, length: int | None) -> dict[str, Any]:
    """The message that begins the response.

    Args:
        call: The call.
        length: Of the whole body, unless this is a file; None if only a part has come.
    """
    assert call.head is not None
    status, headers = call.head
    if call.unframed and length is not None:
        count = length if call.file is None else call.file.count
        headers = [*headers, (b"content-length", b"%d" % count)]
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _send_body(call: Call, body: bytes, send: Any, *, more: bool) -> None:
    file = call.file
    if file is None:
        await send({"type": "http.response.body", "body": body, "more_body": more})
    else:
        await send({"type": "http.response.pathsend", "path": file, "count": file.count})
    call.sent(len(body))
