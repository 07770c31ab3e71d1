"""What an operator does to a running server, by signals and over the control socket, and what it tells."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fdpass
from fdpass.errors import FdpassError
from fdpass.serve import host, tls
from fdpass.serve.config import Config, flag
from fdpass.serve.control import Act, Reply
from fdpass.serve.dispatcher import Dispatcher
from fdpass.serve.ledger import BEAT_SECONDS, MOST_WORKERS
from fdpass.serve.listener import Listening
from fdpass.serve.logs import configure
from fdpass.serve.loop import Loop
from fdpass.serve.member import Member
from fdpass.serve.notify import Notifier
from fdpass.serve.process import resident
from fdpass.serve.recovery import Action

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

_OK: dict[str, Any] = {"ok": True}


def _quiet(_: Mapping[str, Any]) -> None:
    """The reply to a signal: nobody reads it, and the log tells."""


class Operations:
    """Reload, scale, stop, retire, reopen, status. Each replies when the outcome is known.

    Args:
        config: The settings.
        reread: Makes them anew.
        loop: Of the dispatcher.
        notifier: Who is told of the server's state. Lent.

    Attributes:
        access_log: The access log, if there is one. Owned.

    Raises:
        CallFailed: The access log cannot be opened.
    """

    def __init__(self, config: Config, reread: Callable[[], Config], loop: Loop, notifier: Notifier) -> None:
        self._config = config
        self._reread = reread
        self._loop = loop
        self._notifier = notifier
        self._reloading: list[Reply] = []  # who waits for the reload that goes on
        self._next: list[Reply] = []  # who asked while it did: their code may be newer
        self._scaling: list[Reply] = []
        self._retiring: list[tuple[Member, Reply]] = []
        self._was_ready = False
        self._status = ""
        self.access_log = host.open_log(config.access_log)

    def begin(self, dispatcher: Dispatcher, listeners: Sequence[Listening]) -> None:
        """Listen to signals from now on."""
        self._dispatcher = dispatcher
        self._pool = dispatcher.pool
        self._listeners = listeners
        dispatcher.on_settled = self._settled
        self._loop.on_signals(
            {
                signal.SIGTERM: self.stop,
                signal.SIGINT: self.stop,
                signal.SIGHUP: self._reload_signalled,
                signal.SIGUSR1: self.reopen,
                signal.SIGTTIN: lambda: self.scale(self._pool.target + 1, _quiet),
                signal.SIGTTOU: lambda: self.scale(self._pool.target - 1, _quiet),
            }
        )
        if self._notifier.watchdog is not None:
            self._wag(self._notifier.watchdog)

    def close(self) -> None:
        """Give back the access log."""
        if self.access_log is not None:
            self.access_log.close()

    def acts(self) -> dict[str, Act]:
        """What the control socket offers."""
        return {
            "status": lambda _, reply: reply(_OK | self.status()),
            "reload": lambda _, reply: self.reload(reply),
            "scale": lambda request, reply: self.scale(request.get("workers"), reply),
            "retire": lambda request, reply: self.retire(request.get("pid"), reply),
            "stop": self._stop_asked,
        }

    def _reload_signalled(self) -> None:
        if not self._next:  # else one that has not begun yet will do for this signal too
            self.reload(_quiet)

    def _wag(self, seconds: float) -> None:
        self._notifier.alive()
        self._loop.call_later(seconds, lambda: self._wag(seconds))

    # Reload

    def reload(self, reply: Reply) -> None:
        """Read the settings again, start the next generation, and retire this one once that is ready."""
        if self._pool.stopping:
            reply({"ok": False, "error": "the server is stopping"})
        elif self._reloading:
            self._next.append(reply)
        else:
            self._reload([reply])

    def _reload(self, replies: list[Reply]) -> None:
        try:
            config = self._reread()
            tls.context(config)
            log_now = host.open_log(config.access_log)
        except FdpassError as error:
            log.error("reload: refused: %s", error)  # noqa: TRY400 - the sentence is for the operator
            for reply in replies:
                reply({"ok": False, "error": str(error)})
            return
        for name in FIXED:
            if getattr(config, name) != getattr(self._config, name):
                log.warning("reload: %s has changed, which takes a restart", flag(name))
        self._reloading = replies
        self._notifier.reloading()
        configure(config.log_level, as_json=config.log_json)
        self._swap_log(log_now)
        self._config = config
        self._pool.reload(config)

    # Others

    def scale(self, workers: Any, reply: Reply) -> None:
        """Have so many workers."""
        if type(workers) is not int or not 1 <= workers <= MOST_WORKERS // 4:
            reply({"ok": False, "error": f"the number of workers is from 1 to {MOST_WORKERS // 4}, not {workers}"})
        elif self._pool.stopping:
            reply({"ok": False, "error": "the server is stopping"})
        else:
            log.info("scale: %d workers instead of %d", workers, self._pool.target)
            self._scaling.append(reply)
            self._pool.scale(workers)

    def retire(self, pid: Any, reply: Reply) -> None:
        """Replace one worker, new before old."""
        member = next((member for member in self._pool.members if member.pid == pid), None)
        if member is None:
            reply({"ok": False, "error": f"no worker has the number {pid}: see fdpass status"})
        else:
            self._retiring.append((member, reply))
            self._pool.on_leaving(member)

    def stop(self) -> None:
        """Finish, and end; the second time, at once."""
        self._notifier.stopping()
        for reply in self._reloading + self._next + self._scaling:
            reply({"ok": False, "error": "the server is stopping"})
        self._reloading, self._next, self._scaling = [], [], []
        self._dispatcher.stop()

    def _stop_asked(self, request: Mapping[str, Any], reply: Reply) -> None:
        reply(_OK)  # the end itself is seen on the server's pidfd
        if not self._pool.stopping:
            self.stop()
        if request.get("now"):
            self.stop()

    def reopen(self) -> None:
        """Open the access log again: somebody has moved the file."""
        try:
            self._swap_log(host.open_log(self._config.access_log))
        except FdpassError as error:
            log.error("%s: the one before is used on", error)  # noqa: TRY400
        else:
            log.info("logs opened again")

    def _swap_log(self, fresh: Any) -> None:
        before, self.access_log = self.access_log, fresh
        if fresh is not None:
            self._dispatcher.reopen(fresh)
        if before is not None:
            before.close()

    # Outcomes

    def _settled(self) -> None:
        pool = self._pool
        if self._reloading and pool.candidate is None:
            outcome = (
                {"ok": False, "error": pool.refusal} if pool.refusal else _OK | {"generation": pool.current.number}
            )
            self._answer(self._reloading, outcome)
            self._notifier.ready(self._summary())
            if self._next:
                replies, self._next = self._next, []
                self._reload(replies)
        if self._scaling and (pool.complete or pool.trouble):
            self._answer(self._scaling, _OK | {"workers": pool.target} if pool.complete else _failed(pool.trouble))
        for member, reply in list(self._retiring):
            if member not in pool.members or pool.trouble:
                self._retiring.remove((member, reply))
                reply(_OK if member not in pool.members else _failed(pool.trouble))
        if pool.complete and not self._was_ready:
            self._was_ready = True
            self._notifier.ready(self._summary())
        elif self._was_ready and self._summary() != self._status:
            self._notifier.status(self._summary())
        self._status = self._summary()

    def _answer(self, replies: list[Reply], outcome: Mapping[str, Any]) -> None:
        waiting, replies[:] = list(replies), []
        for reply in waiting:
            reply(outcome)

    def _summary(self) -> str:
        return f"generation {self._pool.current.number}, {self._pool.target} workers"

    # Status

    def status(self) -> dict[str, Any]:
        """What is going on, as ``fdpass status --json`` has it."""
        books = self._dispatcher.accounts
        return {
            "server": {
                "pid": os.getpid(),
                "version": fdpass.__version__,
                "generation": self._pool.current.number,
                "listeners": [each.name for each in self._listeners],
                "app": self._config.app,
            },
            "connections": {
                "accepted": books.accepted,
                "live": books.live,
                "handed": books.handed,
                "finished": books.finished,
                "rehanded": books.rehanded,
                "lost": books.lost,
                **self._outlived(),
            },
            "workers": [self._of(member) for member in self._pool.members],
        }

    def _outlived(self) -> dict[str, int]:
        """What became of connections whose worker died, or retired."""
        custody = self._dispatcher.custody
        if custody is None:
            return {}
        return {
            "moved": custody.counts[Action.IDLE],
            "replayed": custody.counts[Action.REPLAY],
            "answered_502": custody.counts[Action.ANSWER],
            "cut": custody.counts[Action.RESET] + custody.counts[Action.CLOSE],
        }

    def _of(self, member: Member) -> dict[str, Any]:
        ledger, row = self._dispatcher.ledger, member.row
        late = time.monotonic_ns() - ledger.beat[row] - int(BEAT_SECONDS * 1e9) if ledger.beat[row] else 0
        return {
            "pid": member.pid,
            "generation": member.generation,
            "state": member.state.value,
            "connections": member.live,
            "requests": ledger.requests[row],
            "handled": ledger.handled[row],
            "lag_ms": round(max(ledger.lag[row], late, 0) / 1e6, 1),
            "rss": resident(member.pid),
        }


def _failed(why: str) -> dict[str, Any]:
    return {"ok": False, "error": f"{why} (the server goes on trying)"}
