"""uvicorn, as WebSockets need it: its configuration, its protocol classes, the application as they call it.

A worker imports uvicorn for its first WebSocket, not before: with all that uvicorn imports, a worker is larger,
and its start slower. That it is installed is checked here.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fdpass.serve.shared.config import Config
from fdpass.serve.worker.cuts import log_cut
from fdpass.serve.worker.http.forwarded import Forwarding
from fdpass.serve.worker.http.protocol import HttpProtocol
from fdpass.serve.worker.passed_socket import PassedSocket, peer_of
from fdpass.serve.worker.request_count import RequestCount

if TYPE_CHECKING:
    import uvicorn

if importlib.util.find_spec("uvicorn") is None:
    raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")

log = logging.getLogger("fdpass.serve")


def uvicorn_config(app: Any, settings: Config) -> uvicorn.Config:
    """Make the configuration.

    Args:
        app: What uvicorn calls.
        settings: Of the server.
    """
    import uvicorn  # noqa: PLC0415 - see above

    return uvicorn.Config(
        app,
        http=HttpProtocol,  # else uvicorn loads its own
        interface="asgi3",
        lifespan="off",  # see `Lifespan`
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        root_path=settings.root_path,
        ws_max_size=settings.ws_max_size,
        ws_ping_interval=settings.ws_ping_interval or None,
        ws_ping_timeout=settings.ws_ping_timeout or None,
    )


def websocket_maker(
    config: uvicorn.Config, servers: Any, state: dict[str, Any], forwarding: Forwarding | None
) -> Callable[[PassedSocket], Any] | None:
    """Return what makes the protocol of a WebSocket on a connection; None: no package for WebSockets is installed.

    Args:
        config: Of uvicorn.
        servers: As uvicorn's ServerState.
        state: What the application's lifespan has left.
        forwarding: Reads what trusted proxies say of their clients; None: there are none.
    """
    config.load()
    kind: Any = config.ws_protocol_class
    if kind is None:
        return None

    def make(passed: PassedSocket) -> Any:
        protocol = kind(config=config, server_state=servers, app_state=state)
        if forwarding is not None and forwarding.trusts(peer_of(passed), is_unix=passed.is_unix):
            protocol.app = with_forwarded(protocol.app, forwarding)
        return protocol

    return make


def call_exit_hooks(make: Callable[[], uvicorn.Config]) -> None:
    """Tell libraries that the server ends: under uvicorn they learn it from `uvicorn.Server.handle_exit`.

    sse-starlette replaces that method of the class, and ends its event streams when the method is called. Where
    nothing has imported uvicorn, there is no such library.

    Args:
        make: Makes uvicorn's configuration.
    """
    uvicorn = sys.modules.get("uvicorn")
    if uvicorn is None:
        return
    try:
        uvicorn.Server(make()).handle_exit(signal.SIGTERM, None)
    except Exception:
        log.exception("a library's hook in uvicorn.Server.handle_exit failed")


def counted(app: Any, count: RequestCount, seconds: float, cutting: Callable[[], bool]) -> Any:
    """Make the application for WebSockets, whose calls are counted.

    Args:
        app: The application.
        count: Counts the calls.
        seconds: That a worker has to finish, for the log.
        cutting: Whether the time to finish is over, so that the worker itself cancels the application.
    """

    async def call(scope: Any, receive: Any, send: Any) -> Any:
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
