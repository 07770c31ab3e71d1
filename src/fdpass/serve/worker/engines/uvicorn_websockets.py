"""uvicorn's configuration, for WebSockets and the lifespan; and the application as uvicorn calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn

from fdpass.serve.shared.config import Config
from fdpass.serve.worker.cuts import log_cut
from fdpass.serve.worker.http.forwarded import Forwarding
from fdpass.serve.worker.http.protocol import HttpProtocol
from fdpass.serve.worker.request_count import RequestCount


def uvicorn_config(app: Any, settings: Config, lifespan: str) -> uvicorn.Config:
    """Make the configuration.

    Args:
        app: What uvicorn calls.
        settings: Of the server.
        lifespan: auto, on or off.
    """
    config = uvicorn.Config(
        app,
        http=HttpProtocol,  # else uvicorn loads its own
        interface="asgi3",
        lifespan=lifespan,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        root_path=settings.root_path,
        ws_max_size=settings.ws_max_size,
        ws_ping_interval=settings.ws_ping_interval or None,
        ws_ping_timeout=settings.ws_ping_timeout or None,
    )
    config.load()
    return config


def counted(app: Any, count: RequestCount, seconds: float, cutting: Callable[[], bool]) -> Any:
    """Make the application for WebSockets, whose calls are counted, and for the lifespan.

    Args:
        app: The application.
        count: Counts the calls.
        seconds: That a worker has to finish, for the log.
        cutting: Whether the time to finish is over, so that the worker itself cancels the application.
    """

    async def call(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        count.begun += 1
        try:
            return await app(scope, receive, send)  # anything but None is a mistake that uvicorn reports
        except asyncio.CancelledError:
            if not cutting():
                raise
            log_cut(seconds, f"the WebSocket {ascii(scope['path'])[1:-1]}", scope)
            return None
        finally:
            count.over += 1

    return call


def with_forwarded(app: Any, forwarding: Forwarding) -> Any:
    """Make the application of a WebSocket from a trusted peer: the scope tells about the client, not the proxy."""

    async def call(scope: Any, receive: Any, send: Any) -> Any:
        forwarded = forwarding.read(scope["headers"])
        if forwarded is not None:
            forwarded.apply(scope)
        return await app(scope, receive, send)

    return call
