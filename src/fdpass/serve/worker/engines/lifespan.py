"""The start and the end of an ASGI application, as uvicorn does both: errors, exit hooks, lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import Any

import uvicorn

log = logging.getLogger("fdpass.serve")


def call_exit_hooks(config: uvicorn.Config) -> None:
    """Tell libraries that the server ends: under uvicorn they learn it from `uvicorn.Server.handle_exit`.

    sse-starlette replaces that method of the class, and ends its event streams when the method is called.
    """
    try:
        uvicorn.Server(config).handle_exit(signal.SIGTERM, None)
    except Exception:
        log.exception("a library's hook in uvicorn.Server.handle_exit failed")


async def stop_lifespan(lifespan: Any, seconds: float) -> None:
    """Run the lifespan's end, for so many seconds at most."""
    try:
        await asyncio.wait_for(lifespan.shutdown(), seconds)
    except TimeoutError:
        # The operator needs the sentence, not a traceback of ours.
        log.error("the application's lifespan shutdown did not end within %.1f s: it is cut", seconds)  # noqa: TRY400


@contextlib.contextmanager
def collected_errors() -> Iterator[list[str]]:
    """Collect what uvicorn logs as an error meanwhile, with the application's traceback, instead of logging it."""
    said: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(self.format(record))

    logger = logging.getLogger("uvicorn.error")
    handler = Collect(logging.ERROR)
    logger.addHandler(handler)
    propagated, logger.propagate = logger.propagate, False
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
