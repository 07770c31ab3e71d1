"""Engines: the code in a worker that speaks a protocol on a connection. One file each.

The worker makes one engine for its application, starts it, gives it connections, and tells it once or twice to
finish.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from fdpass._words import counted
from fdpass.errors import StartFailed
from fdpass.serve.shared.access_log import AccessLog
from fdpass.serve.shared.setup import Setup
from fdpass.serve.worker.application import required_arguments
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.cuts import log_cut
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.request_count import RequestCount

_CLEAN_UP_SECONDS = 1.0  # for cancelled handlers
_ENGINES = {  # of each interface: the module in this folder, and the class
    "asgi": ("asgi", "AsgiEngine"),
    "wsgi": ("wsgi", "WsgiEngine"),
    "stream": ("stream", "StreamEngine"),
    "connection": ("connection", "ConnectionEngine"),
    "blocking": ("blocking", "BlockingEngine"),
    "listener": ("listener", "ListenerEngine"),
}


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine is made from.

    Attributes:
        app: The application.
        request_count: Where the engine counts requests.
        setup: What the dispatcher told the worker.
        access_log: Where the engine logs requests; None: nowhere.
        buffers: This worker's receive buffers; None without custody.
        leave: Makes the dispatcher replace this worker, new before old.
        excuse: Called before something that keeps the event loop from running, for at most so many seconds: so the
            dispatcher does not take the worker for a stuck one, which gets no connections.
    """

    app: Any
    request_count: RequestCount
    setup: Setup
    access_log: AccessLog | None = None
    buffers: Buffers | None = None
    leave: Callable[[], None] = lambda: None
    excuse: Callable[[float], None] = lambda _: None


class Engine(Protocol):
    """Serves connections, in the running loop.

    Attributes:
        keeps_slots: The engine keeps the slots of its connections true, so that these can outlive the worker.
        plain_http: The clients speak HTTP without TLS, so that the dispatcher can answer them with a 502.
    """

    keeps_slots: bool
    plain_http: bool

    async def start(self) -> None:
        """Start the application. What the application raises passes through."""

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection. Given: the engine closes it. Never raises."""

    async def finish(self, seconds: float, *, retiring: bool) -> None:
        """End idle connections now and others when they become idle, then stop the application.

        Args:
            seconds: After this time the engine cuts what is still in progress.
            retiring: True: idle connections return to the dispatcher where possible, and connections without an
                end of their own (WebSockets) may stay for ``seconds``. False: the engine ends both now.
        """


async def end_tasks(tasks: Collection[asyncio.Task[None]], seconds: float) -> None:
    """Wait for handlers; after ``seconds`` cancel those that are left, and let them clean up."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    if late:
        log_cut(seconds, counted(len(late), "connection"))
        await asyncio.wait(late, timeout=_CLEAN_UP_SECONDS)


def engine_for(interface: str, job: Job) -> Engine:
    """Make the engine that calls an application by its interface: asgi, wsgi, stream, blocking or listener.

    A stream handler with one parameter gets a `Connection` instead of a reader and a writer.

    Raises:
        StartFailed: The engine needs a package that is not installed.
    """
    if interface == "stream" and required_arguments(job.app) == 1:
        interface = "connection"
    make = engine_class(interface)
    try:
        return make(job)
    except ImportError as error:
        raise _missing(interface, error) from error


def engine_class(interface: str) -> Callable[[Job], Engine]:
    """Import an engine.

    Raises:
        StartFailed: As `engine_for`.
    """
    module, name = _ENGINES[interface]
    try:
        found = importlib.import_module(f"{__name__}.{module}")
    except ImportError as error:
        raise _missing(interface, error) from error
    made: Callable[[Job], Engine] = getattr(found, name)
    return made


def _missing(interface: str, error: ImportError) -> StartFailed:
    return StartFailed(f"cannot serve {interface}: {error}: install it with pip install 'fdpass[serve]'")
