"""Engines: the code in a worker that speaks a protocol on a connection. One file each.

An engine is made for an application, started, given connections, and told once or twice to finish.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

from fdpass.serve.application import positional
from fdpass.serve.passed import PassedSocket
from fdpass.serve.setup import Setup
from fdpass.serve.tally import Tally

_LAST_SECONDS = 1.0  # for a cancelled handler to clean up


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine has to know.

    Attributes:
        app: The application.
        tally: Where requests are counted.
        setup: What the worker was told.
    """

    app: Any
    tally: Tally
    setup: Setup


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
