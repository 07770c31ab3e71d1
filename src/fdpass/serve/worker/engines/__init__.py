"""Engines: the code in a worker that speaks a protocol on a connection. One file each.

An engine is made for an application, started, given connections, and told once or twice to finish.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from fdpass.serve.shared.setup import Setup
from fdpass.serve.worker.access_log import AccessLog
from fdpass.serve.worker.application import positional
from fdpass.serve.worker.custody.buffers import Buffers
from fdpass.serve.worker.passed_socket import PassedSocket
from fdpass.serve.worker.request_count import RequestCount

_LAST_SECONDS = 1.0  # for a cancelled handler to clean up


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine has to know.

    Attributes:
        app: The application.
        tally: Where requests are counted.
        setup: What the worker was told.
        access_log: Where requests are logged, if anywhere.
        buffers: This worker's receive buffers, if connections are in custody.
    """

    app: Any
    tally: RequestCount
    setup: Setup
    access_log: AccessLog | None = None
    buffers: Buffers | None = None


class Engine(Protocol):
    """Serves connections, in the running loop.

    Attributes:
        keeps: It keeps the slots of its connections true, so that these can outlive the worker.
        answers: Its clients understand a 502.
    """

    keeps: bool
    answers: bool

    async def start(self) -> None:
        """Start the application. Raises whatever it raises."""

    def take(self, passed: PassedSocket) -> None:
        """Serve a connection. Given: the engine closes it. Never raises."""

    async def finish(self, seconds: float, *, streams: bool) -> None:
        """End idle connections now and others when they become idle, then stop the application.

        Args:
            seconds: After so long, what is still in progress is cut.
            streams: Let what has no end of its own (WebSockets) stay for that long; else it is ended now.
        """


async def end_tasks(tasks: Collection[asyncio.Task[None]], seconds: float) -> None:
    """Wait for handlers; after ``seconds`` cancel those that are left, and let them clean up."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=_LAST_SECONDS)


def engine_for(interface: str, job: Job) -> Engine:
    """The engine that calls the application so: asgi, wsgi, stream, blocking or listener."""
    name = {"wsgi": "asgi"}.get(interface, interface)
    if interface == "stream" and positional(job.app) == 1:
        name = "connection"
    module = importlib.import_module(f"{__name__}.{name}")
    engine: Engine = module.Wsgi(job) if interface == "wsgi" else module.Engine(job)
    return engine
