"""`Lifespan`: an ASGI application's start and end, as the specification of ASGI's lifespan has them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fdpass.serve.worker.application import StartupFailed, traceback_of

log = logging.getLogger("fdpass.serve")


class Lifespan:
    """Calls the application for its lifespan, tells it to start and to shut down, and waits for its answers.

    Args:
        app: The application.
        setting: ``on``: it must support the lifespan; ``off``: it is not called; ``auto``: if it raises before it
            has started, it does not support the lifespan.

    Attributes:
        state: What the application leaves for its requests.
    """

    def __init__(self, app: Any, setting: str) -> None:
        self.state: dict[str, Any] = {}
        self._app, self._setting = app, setting
        self._asked: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._stage = ""  # what the application was asked last, and has not answered
        self._answer: asyncio.Event = asyncio.Event()
        self._failure: str | None = None
        self._task: asyncio.Task[None] | None = None  # of the application's call

    async def start(self) -> None:
        """Let the application start.

        Raises:
            StartupFailed: It reported that it cannot, or raised although the setting is ``on``.
        """
        if self._setting == "off":
            return
        self._task = asyncio.create_task(self._run())
        await self._ask("startup")
        if self._failure is not None:
            raise StartupFailed("the application's lifespan startup failed", self._failure)

    async def stop(self, seconds: float) -> None:
        """Let the application shut down, for so many seconds at most. A failure is logged."""
        try:
            await asyncio.wait_for(self._ask("shutdown"), seconds)
        except TimeoutError:
            # The operator needs the sentence, not a traceback of ours.
            log.error("the application's lifespan shutdown did not end within %.1f s: it is cut", seconds)  # noqa: TRY400
        if self._failure is not None:
            log.error("the application's lifespan shutdown failed: %s", self._failure or "it gave no reason")

    async def _ask(self, stage: str) -> None:
        if self._task is None or self._task.done():
            return  # nobody is there to ask
        self._stage = stage
        self._answer.clear()
        self._asked.put_nowait({"type": f"lifespan.{stage}"})
        await self._answer.wait()

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._asked.get, self._send)
        except BaseException as error:  # noqa: BLE001 - sys.exit too ends only the lifespan
            self._ended_by(error)
        finally:
            self._answer.set()

    def _ended_by(self, error: BaseException) -> None:
        if self._failure is not None:
            return  # it has said so before
        if self._stage == "startup" and self._setting == "auto":
            log.debug("the application supports no lifespan: %r", error)
        elif self._stage:
            self._failure = traceback_of(error)
        elif not isinstance(error, asyncio.CancelledError):  # else the worker ends
            log.error("the application's lifespan has ended early: %s", traceback_of(error))

    async def _send(self, message: dict[str, Any]) -> None:
        kind, stage = message["type"], self._stage
        if not stage or kind not in {f"lifespan.{stage}.complete", f"lifespan.{stage}.failed"}:
            raise RuntimeError(f"the application sends {kind!r}, which answers nothing that its lifespan was told")
        if kind.endswith("failed"):
            self._failure = message.get("message", "")
        self._stage = ""
        self._answer.set()
