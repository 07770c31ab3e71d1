"""What an operator does to a running server, by signals and over the control socket."""

from __future__ import annotations

import dataclasses
import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fdpass.errors import FdpassError
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.loop import Loop
from fdpass.serve.operator.control import Act, Reply
from fdpass.serve.operator.outcomes import OK, STOPPING, Outcomes, answer, refused
from fdpass.serve.operator.status import status
from fdpass.serve.operator.systemd import Notifier
from fdpass.serve.shared import tls
from fdpass.serve.shared.config import Config, flag
from fdpass.serve.shared.ledger import MOST_WORKERS
from fdpass.serve.shared.logs import configure

log = logging.getLogger("fdpass.serve")

FIXED = (
    "bind",
    "accept",
    "custody",
    "replay",
    "balance",
    "backlog",
    "max_connections",
    "user",
    "group",
    "pidfile",
    "control",
)
"""Settings that a reload cannot change."""


def _quiet(_: Mapping[str, Any]) -> None:
    """The reply to a signal: nobody reads it, and the log tells."""


class Operations:
    """Reload, scale, stop, retire, reopen. Each replies when the outcome is known. Signals are heard from now on.

    Args:
        loop: The loop of the dispatcher.
        dispatcher: Who runs the server. Lent.
        reread: Makes the settings anew.
        outcomes: Who answers when workers have come or gone; the dispatcher tells it.
        notifier: The line to the service manager. Lent.
    """

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        *,
        reread: Callable[[], Config],
        outcomes: Outcomes,
        notifier: Notifier,
    ) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._pool = dispatcher.pool
        self._reread = reread
        self._outcomes = outcomes
        self._notifier = notifier
        self._reloading: list[Reply] = []  # who waits for the reload that goes on
        self._next: list[Reply] = []  # who asked while it did: their code may be newer
        loop.on_signals(
            {
                signal.SIGTERM: self.stop,
                signal.SIGINT: self.stop,
                signal.SIGHUP: self._reload_signalled,
                signal.SIGUSR1: self.reopen,
                signal.SIGTTIN: lambda: self.scale(self._pool.target + 1, _quiet),
                signal.SIGTTOU: lambda: self.scale(self._pool.target - 1, _quiet),
            }
        )
        if notifier.watchdog is not None:
            self._wag(notifier.watchdog)

    def acts(self, listeners: Sequence[Listening]) -> dict[str, Act]:
        """What the control socket offers.

        Args:
            listeners: Where the server listens, for the status.
        """
        return {
            "status": lambda _, reply: reply(OK | status(self._dispatcher, listeners)),
            "reload": lambda _, reply: self.reload(reply),
            "scale": lambda request, reply: self.scale(request.get("workers"), reply),
            "retire": lambda request, reply: self.retire(request.get("pid"), reply),
            "stop": self._stop_asked,
        }

    def _wag(self, seconds: float) -> None:
        self._notifier.alive()
        self._loop.call_later(seconds, lambda: self._wag(seconds))

    # Reload

    def reload(self, reply: Reply) -> None:
        """Read the settings again, start the next generation, and retire this one once that is ready."""
        if self._pool.stopping:
            reply(STOPPING)
        elif self._reloading:
            self._next.append(reply)
        else:
            self._reload([reply])

    def _reload_signalled(self) -> None:
        if not self._next:  # else one that has not begun yet will do for this signal too
            self.reload(_quiet)

    def _reload(self, replies: list[Reply]) -> None:
        try:
            config = self._reread()
            tls.context(config)
            access_log = AccessLog(config.access_log)
        except FdpassError as error:
            log.error("reload: refused: %s", error)  # noqa: TRY400 - the sentence is for the operator
            answer(replies, refused(str(error)))
            return
        self._reloading = replies
        self._notifier.reloading()
        self._pool.reload(_with_fixed(config, self._pool.current.config), access_log, self._reloaded)

    def _reloaded(self, why: str) -> None:
        """The next generation serves, or does not: then the dispatcher's own log stays as it was."""
        current = self._pool.current
        if not why:
            configure(current.config.log_level, as_json=current.config.log_json)
        replies, self._reloading = self._reloading, []
        answer(replies, refused(why) if why else OK | {"generation": current.number})
        if not self._pool.stopping:  # else the service manager would take the server for one that goes on
            self._outcomes.reloaded(self._pool)
        if self._next:
            self._loop.call_later(0, self._reload_next)  # not before the pool is done with this one

    def _reload_next(self) -> None:
        replies, self._next = self._next, []
        if self._reloading:
            self._next = replies
        elif replies:
            self._reload(replies)

    # Others

    def scale(self, workers: Any, reply: Reply) -> None:
        """Have so many workers."""
        if type(workers) is not int or not 1 <= workers <= MOST_WORKERS // 4:
            reply(refused(f"the number of workers is from 1 to {MOST_WORKERS // 4}, not {workers}"))
        elif self._pool.stopping:
            reply(STOPPING)
        else:
            log.info("scale: %d workers instead of %d", workers, self._pool.target)
            self._outcomes.wait_scaled(reply)
            self._pool.scale(workers)

    def retire(self, pid: Any, reply: Reply) -> None:
        """Replace one worker, new before old."""
        member = next((member for member in self._pool.workers if member.pid == pid), None)
        if member is None:
            reply(refused(f"no worker has the number {pid}: see fdpass status"))
        else:
            self._outcomes.wait_retired(member, reply)
            self._pool.replace(member)

    def stop(self) -> None:
        """Finish, and end; the second time, at once."""
        replies, self._next = self._next, []
        answer(replies, STOPPING)
        self._outcomes.stopping()
        self._dispatcher.stop()

    def _stop_asked(self, request: Mapping[str, Any], reply: Reply) -> None:
        reply(OK)  # the end itself is seen on the server's pidfd
        if not self._pool.stopping:
            self.stop()
        if request.get("now"):
            self.stop()

    def reopen(self) -> None:
        """Open the access log again: somebody has moved the file."""
        try:
            self._pool.reopen_logs()
        except FdpassError as error:
            log.error("%s: the one before is used on", error)  # noqa: TRY400
        else:
            log.info("logs opened again")


def _with_fixed(config: Config, running: Config) -> Config:
    """New settings, but for those that only a restart can change; the log names them if they differ."""
    kept = {name: getattr(running, name) for name in FIXED}
    for name, value in kept.items():
        if getattr(config, name) != value:
            log.warning("reload: %s has changed, which takes a restart", flag(name))
    return dataclasses.replace(config, **kept)
