"""`Outcomes`: replies to commands once workers have started or ended, and notifies the service manager."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fdpass._supervision.notifier import Notifier
from fdpass._words import counted
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.operator.control import Reply
from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")

OK: dict[str, Any] = {"ok": True}
STOPPING: dict[str, Any] = {"ok": False, "error": "the server is stopping"}


class Outcomes:
    """Keeps the replies that have to wait for workers. The dispatcher calls `settled` at each change of a worker.

    Args:
        notifier: Notifies the service manager. Lent.
        names: Of the listeners.
    """

    def __init__(self, notifier: Notifier, names: Sequence[str] = ()) -> None:
        self._notifier = notifier
        self._names = names
        self._scaling: list[Reply] = []
        self._retiring: list[tuple[WorkerHandle, Reply]] = []
        self._was_ready = False
        self._status = ""

    @property
    def awaited(self) -> bool:
        """Whether a client waits for an outcome."""
        return bool(self._scaling or self._retiring)

    def wait_scaled(self, reply: Reply) -> None:
        """Reply once all wanted workers are ready, or one could not be started."""
        self._scaling.append(reply)

    def wait_retired(self, worker: WorkerHandle, reply: Reply) -> None:
        """Reply once this worker has ended, or its replacement could not be started."""
        self._retiring.append((worker, reply))

    def reloaded(self, pool: Pool) -> None:
        """Notify the service manager that a reload has ended, with success or without."""
        self._status = _summary(pool)
        self._notifier.ready(self._status)

    def stopping(self) -> None:
        """Notify the service manager that the server stops, and reply so to those who wait for a scaling."""
        self._notifier.stopping()
        waiting, self._scaling = self._scaling, []
        reply_all(waiting, STOPPING)

    def settled(self, pool: Pool) -> None:
        """Reply to those whose wait is over, now that workers have started or ended."""
        if self._scaling and (pool.complete or pool.starts.failure):
            waiting, self._scaling = self._scaling, []
            reply_all(waiting, OK | {"workers": pool.target} if pool.complete else _failed(pool.starts.failure))
        for worker, reply in list(self._retiring):
            if worker not in pool.workers or pool.starts.failure:
                self._retiring.remove((worker, reply))
                reply(OK if worker not in pool.workers else _failed(pool.starts.failure))
        summary = _summary(pool)
        if pool.complete and not self._was_ready:
            self._was_ready = True
            self._notifier.ready(summary)
            self._log_ready(pool)
        elif self._was_ready and summary != self._status:
            self._notifier.status(summary)
        self._status = summary

    def _log_ready(self, pool: Pool) -> None:
        """Log where clients find the application: with HTTP the URLs, else how the application is called."""
        names, interfaces = self._names, {worker.interface for worker in pool.workers} - {""}
        kind = f" ({', '.join(sorted(interfaces))})"
        if interfaces <= {"asgi", "wsgi"}:
            scheme, kind = "https" if pool.current.config.tls_cert else "http", ""
            names = [name if name.startswith("unix:") else f"{scheme}://{name}" for name in names]
        log.info("ready: %s%s", ", ".join(names), kind, extra=about(Event.SERVER_READY))


def reply_all(replies: Sequence[Reply], outcome: Mapping[str, Any]) -> None:
    """Send the same reply to several clients."""
    for reply in replies:
        reply(outcome)


def no_reply(_: Mapping[str, Any]) -> None:
    """Take the place of a reply to a signal: no client waits, and the log has the outcome."""


def refused(why: str) -> dict[str, Any]:
    """Make the reply that says why a command was not done."""
    return {"ok": False, "error": why}


def _failed(why: str) -> dict[str, Any]:
    return refused(f"{why} (the server keeps trying)")


def _summary(pool: Pool) -> str:
    return f"generation {pool.current.number}, {counted(pool.target, 'worker')}"
