"""`Outcomes`: answers those who wait for workers to come or go, and tells the service manager about the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.dispatcher.pool.worker_handle import WorkerHandle
from fdpass.serve.operator.control import Reply
from fdpass.serve.operator.systemd import Notifier

OK: dict[str, Any] = {"ok": True}
STOPPING: dict[str, Any] = {"ok": False, "error": "the server is stopping"}


class Outcomes:
    """Replies that wait, and what they wait for.

    Args:
        notifier: The line to the service manager. Lent.
    """

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._scaling: list[Reply] = []
        self._retiring: list[tuple[WorkerHandle, Reply]] = []
        self._was_ready = False
        self._status = ""

    def wait_scaled(self, reply: Reply) -> None:
        """Answer once as many workers as are wanted are ready, or one could not be started."""
        self._scaling.append(reply)

    def wait_retired(self, member: WorkerHandle, reply: Reply) -> None:
        """Answer once this worker has ended, or another could not be started in its place."""
        self._retiring.append((member, reply))

    def reloaded(self, pool: Pool) -> None:
        """A reload has ended, in one way or the other."""
        self._status = _summary(pool)
        self._notifier.ready(self._status)

    def stopping(self) -> None:
        """The server has begun to stop: it is not scaled any more."""
        self._notifier.stopping()
        waiting, self._scaling = self._scaling, []
        answer(waiting, STOPPING)

    def settled(self, pool: Pool) -> None:
        """Something has happened among the workers: answer those who waited for it."""
        if self._scaling and (pool.complete or pool.starts.failure):
            waiting, self._scaling = self._scaling, []
            answer(waiting, OK | {"workers": pool.target} if pool.complete else _failed(pool.starts.failure))
        for member, reply in list(self._retiring):
            if member not in pool.workers or pool.starts.failure:
                self._retiring.remove((member, reply))
                reply(OK if member not in pool.workers else _failed(pool.starts.failure))
        summary = _summary(pool)
        if pool.complete and not self._was_ready:
            self._was_ready = True
            self._notifier.ready(summary)
        elif self._was_ready and summary != self._status:
            self._notifier.status(summary)
        self._status = summary


def answer(replies: Sequence[Reply], outcome: Mapping[str, Any]) -> None:
    """Tell each of them the same."""
    for reply in replies:
        reply(outcome)


def refused(why: str) -> dict[str, Any]:
    """The reply to what is not done."""
    return {"ok": False, "error": why}


def _failed(why: str) -> dict[str, Any]:
    return refused(f"{why} (the server goes on trying)")


def _summary(pool: Pool) -> str:
    return f"generation {pool.current.number}, {pool.target} workers"
