"""`Operations`: what signals and the control socket make a running server do."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass._words import counted
from fdpass.errors import FdpassError
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.requests import WAKE, Requests
from fdpass.serve.operator.control import Command, Reply
from fdpass.serve.operator.events import Events
from fdpass.serve.operator.folder import Folder
from fdpass.serve.operator.outcomes import OK, STOPPING, Outcomes, no_reply, refused
from fdpass.serve.operator.reloads import Reloads
from fdpass.serve.operator.signals import ignored
from fdpass.serve.operator.status import status
from fdpass.serve.operator.upgrades import Upgrades
from fdpass.serve.shared.config import MOST_WANTED, Config
from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")


class Operations:
    """Runs commands, and replies when their outcome is known; handles signals from now on.

    Args:
        loop: The dispatcher's event loop.
        dispatcher: The dispatcher. Lent.
        reread: Makes the settings again, for a reload.
        outcomes: Replies once workers have started or ended; the dispatcher tells it when they have.
        notifier: Notifies the service manager. Lent.
        estate: Has the requests that the keeper gets by signals; None without a keeper: they come here.
        folder: The folder in which the server was started; None if this process was started in it.
    """

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        *,
        reread: Callable[[], Config],
        outcomes: Outcomes,
        notifier: Notifier,
        estate: Estate | None = None,
        folder: Folder | None = None,
    ) -> None:
        self._loop = loop
        self._estate = estate
        self._dispatcher = dispatcher
        self._pool = dispatcher.pool
        self._outcomes = outcomes
        self._notifier = notifier
        self._reloads = Reloads(
            loop, self._pool, reread=reread, outcomes=outcomes, notifier=notifier, folder=folder or Folder()
        )
        self._upgrades = Upgrades(loop, dispatcher, estate, lambda: outcomes.awaited or self._reloads.awaited)
        callbacks: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGQUIT: self.stop,
            signal.SIGHUP: self._reloads.request_by_signal,
            signal.SIGUSR1: self.reopen,
            signal.SIGTTIN: lambda: self.scale(self._pool.target + 1, no_reply),
            signal.SIGTTOU: lambda: self.scale(self._pool.target - 1, no_reply),
        }
        self._requests = None if estate is None else Requests(estate, callbacks)
        if self._requests is None:
            loop.on_signals(callbacks | ignored(callbacks))
        else:
            loop.on_signals({WAKE: self._act})
        if notifier.watchdog is not None:
            self._notify_watchdog(notifier.watchdog)

    @property
    def stopping(self) -> bool:
        """Whether the server stops."""
        return self._pool.stopping

    def commands(self, listeners: Sequence[Listening], events: Events, control: str) -> dict[str, Command]:
        """Return the function of each verb of the control socket.

        Args:
            listeners: The server's listeners, for the status.
            events: The events.
            control: The path of the control socket, likewise.
        """
        return {
            "status": lambda _, reply: reply(OK | status(self._dispatcher, listeners, control)),
            "events": events.request,
            "reload": lambda _, reply: self._reloads.request(reply),
            "scale": lambda request, reply: self.scale(request.get("workers"), reply),
            "retire": lambda request, reply: self.retire(request.get("pid"), reply),
            "stop": self._stop_by_command,
            "upgrade": self._upgrades.request,
            "upgraded": self._upgrades.outcome,
        }

    def _act(self) -> None:
        assert self._requests is not None
        self._requests.act()
        self._upgrades.act()

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
            goal = counted(workers, "worker")
            log.info("scaling from %d to %s", self._pool.target, goal, extra=about(Event.SCALED))
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
        for _ in range((not self._pool.stopping) + bool(request.get("now"))):
            if self._estate is None:
                self.stop()
            else:
                os.kill(self._estate.head[Head.KEEPER], signal.SIGTERM)  # which counts, for every dispatcher

    def resume(self) -> None:
        """In a dispatcher with a keeper: go on with what a dead dispatcher was asked to do."""
        assert self._requests is not None
        self._reloads.resume()
        self._requests.act_again()
        self._upgrades.act()

    def reopen(self) -> None:
        """Open the access log again, after an operator has moved the file."""
        try:
            self._pool.reopen_logs()
        except FdpassError as error:
            extra = about(Event.ACCESS_LOG_FAILED)
            log.error("%s; workers keep writing to the old file", error, extra=extra)  # noqa: TRY400 - the sentence is enough
        else:
            file = self._pool.current.config.access_log or "none is set"
            log.info("access log opened again: %s", file, extra=about(Event.ACCESS_LOG_OPENED))
