"""`Operations`: what signals and the control socket make a running server do."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass.errors import FdpassError
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.operator.control import Command, Reply
from fdpass.serve.operator.outcomes import OK, STOPPING, Outcomes, no_reply, refused
from fdpass.serve.operator.reloads import Reloads
from fdpass.serve.operator.signals import ignored
from fdpass.serve.operator.status import status
from fdpass.serve.shared.config import MOST_WANTED, Config

log = logging.getLogger("fdpass.serve")


class Operations:
    """Runs commands, and replies when their outcome is known; handles signals from now on.

    Args:
        loop: The dispatcher's event loop.
        dispatcher: The dispatcher. Lent.
        reread: Makes the settings again, for a reload.
        outcomes: Replies once workers have started or ended; the dispatcher tells it when they have.
        notifier: Notifies the service manager. Lent.
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
        self._outcomes = outcomes
        self._notifier = notifier
        self._reloads = Reloads(loop, self._pool, reread=reread, outcomes=outcomes, notifier=notifier)
        callbacks = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGQUIT: self.stop,
            signal.SIGHUP: self._reloads.request_by_signal,
            signal.SIGUSR1: self.reopen,
            signal.SIGTTIN: lambda: self.scale(self._pool.target + 1, no_reply),
            signal.SIGTTOU: lambda: self.scale(self._pool.target - 1, no_reply),
        }
        loop.on_signals(callbacks | ignored(callbacks))
        if notifier.watchdog is not None:
            self._notify_watchdog(notifier.watchdog)

    def commands(self, listeners: Sequence[Listening]) -> dict[str, Command]:
        """Return the function of each verb of the control socket.

        Args:
            listeners: The server's listeners, for the status.
        """
        return {
            "status": lambda _, reply: reply(OK | status(self._dispatcher, listeners)),
            "reload": lambda _, reply: self._reloads.request(reply),
            "scale": lambda request, reply: self.scale(request.get("workers"), reply),
            "retire": lambda request, reply: self.retire(request.get("pid"), reply),
            "stop": self._stop_by_command,
        }

    def _notify_watchdog(self, seconds: float) -> None:
        self._notifier.alive()
        self._loop.call_later(seconds, lambda: self._notify_watchdog(seconds))

    def scale(self, workers: Any, reply: Reply) -> None:
        """Change the number of workers."""
        if type(workers) is not int or not 1 <= workers <= MOST_WANTED:
            reply(refused(f"the number of workers must be from 1 to {MOST_WANTED}, not {workers}"))
        elif self._pool.stopping:
            reply(STOPPING)
        else:
            log.info("scaling from %d to %d workers", self._pool.target, workers)
            self._outcomes.wait_scaled(reply)
            self._pool.scale(workers)

    def retire(self, pid: Any, reply: Reply) -> None:
        """Replace one worker: another one is started before this one retires."""
        worker = next((worker for worker in self._pool.workers if worker.pid == pid), None)
        if worker is None:
            reply(refused(f"no worker has the process ID {pid}: fdpass status lists the workers"))
        else:
            self._outcomes.wait_retired(worker, reply)
            self._pool.replace(worker)

    def stop(self) -> None:
        """Finish the requests in progress and end; a second call ends the server at once."""
        self._reloads.cancel_next()
        self._outcomes.stopping()
        self._dispatcher.stop()

    def _stop_by_command(self, request: Mapping[str, Any], reply: Reply) -> None:
        reply(OK)  # the client waits for the end on the server's pidfd
        if not self._pool.stopping:
            self.stop()
        if request.get("now"):
            self.stop()

    def reopen(self) -> None:
        """Open the access log again, after an operator has moved the file."""
        try:
            self._pool.reopen_logs()
        except FdpassError as error:
            log.error("%s; workers keep writing to the old file", error)  # noqa: TRY400 - the sentence is enough
        else:
            log.info("access log opened again: %s", self._pool.current.config.access_log or "none is set")
