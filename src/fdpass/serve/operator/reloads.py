"""`Reloads`: one reload at a time; requests that arrive during a reload share the next one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass.errors import FdpassError
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.pool.pool import Pool
from fdpass.serve.operator.control import Reply
from fdpass.serve.operator.folder import Folder
from fdpass.serve.operator.outcomes import OK, STOPPING, Outcomes, no_reply, refused, reply_all
from fdpass.serve.shared import tls
from fdpass.serve.shared.config import FIXED, Config
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.logs import configure, read_config
from fdpass.serve.shared.setting import flag

log = logging.getLogger("fdpass.serve")


class Reloads:
    """Starts generations on request, and replies when the outcome is known.

    Args:
        loop: The dispatcher's event loop.
        pool: The workers. Lent.
        reread: Makes the settings again from flags, environment and files.
        outcomes: Learns that a reload has ended.
        notifier: Notifies the service manager. Lent.
        folder: The folder in which the server was started.
    """

    def __init__(
        self,
        loop: Loop,
        pool: Pool,
        *,
        reread: Callable[[], Config],
        outcomes: Outcomes,
        notifier: Notifier,
        folder: Folder,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._reread = reread
        self._outcomes = outcomes
        self._notifier = notifier
        self._folder = folder
        self._running: list[Reply] = []  # of the reload in progress
        self._next: list[Reply] = []  # of requests since its start: the code may have changed again

    @property
    def awaited(self) -> bool:
        """Whether a client waits for the outcome of a reload."""
        return any(reply is not no_reply for reply in (*self._running, *self._next))

    def request(self, reply: Reply) -> None:
        """Reload now, or once the reload in progress has ended."""
        if self._pool.stopping:
            reply(STOPPING)
        elif self._running:
            self._next.append(reply)
        else:
            self._start([reply])

    def request_by_signal(self) -> None:
        """Reload as `request` does, without a reply: the log has the outcome."""
        if not self._next:  # else the next reload serves this signal too
            self.request(no_reply)

    def resume(self) -> None:
        """Go on with a reload that a dead dispatcher had begun. The clients that asked for it have lost it."""
        if self._pool.candidate is not None:
            self._running = [no_reply]
            self._pool.resume_reload(self._ended)

    def cancel_next(self) -> None:
        """Reply to the requests for the next reload that the server stops."""
        replies, self._next = self._next, []
        reply_all(replies, STOPPING)

    def _start(self, replies: list[Reply]) -> None:
        current = self._pool.current
        try:
            with self._folder.entered() as folder:
                config = with_fixed(self._reread(), current.config)
                tls.context(config)
                if config.log_config:
                    read_config(config.log_config)
            access_log = AccessLog(config.access_log, config.access_log_format)
        except Exception as error:  # a mistake in reading the settings must not end the server either
            expected = isinstance(error, FdpassError | OSError)
            why = str(error) if expected else f"the settings cannot be read: {type(error).__name__}: {error}"
            self._pool.totals.reloads["refused"] += 1
            extra = about(Event.RELOAD_REFUSED, generation=current.number)
            # Of an error with a sentence the operator needs no traceback.
            trace = None if expected else error
            words = "reload: refused, generation %d keeps serving: %s"
            log.error(words, current.number, why, extra=extra, exc_info=trace)  # noqa: TRY400
            reply_all(replies, refused(why))
            return
        self._running = replies
        self._notifier.reloading()
        self._pool.reload(config, access_log, self._ended, folder)

    def _ended(self, why: str) -> None:
        """The next generation serves, or has failed because of `why`: then the log's level and format stay."""
        current = self._pool.current
        if not why:
            self._configure_log(current.config)
        replies, self._running = self._running, []
        reply_all(replies, refused(why) if why else OK | {"generation": current.number})
        if not self._pool.stopping:  # else READY=1 would revoke STOPPING=1
            self._outcomes.reloaded(self._pool)
        if self._next:
            self._loop.call_later(0, self._start_next)  # the pool accepts no reload before this call returns

    def _configure_log(self, config: Config) -> None:
        try:
            with self._folder.entered():
                configure(config.log_level, as_json=config.log_json, file=config.log_config)
        except (FdpassError, OSError) as error:
            log.error("reload: the dispatcher's log stays as it is by default: %s", error)  # noqa: TRY400 - as above

    def _start_next(self) -> None:
        replies, self._next = self._next, []
        if self._running:
            self._next = replies
        elif replies:
            self._start(replies)


def with_fixed(config: Config, running: Config, what: str = "reload") -> Config:
    """Combine the new settings with the running values of `FIXED`, and log which of these have changed.

    Args:
        config: The new settings.
        running: The settings in force.
        what: How the log names the act.
    """
    kept = {name: getattr(running, name) for name in FIXED}
    for name, value in kept.items():
        if (changed := getattr(config, name)) != value:
            words = flag(name), _text(value), _text(changed)
            extra = about(Event.SETTING_KEPT)
            log.warning("%s: %s stays %s: only a restart can make it %s", what, *words, extra=extra)
    return dataclasses.replace(config, **kept)


def _text(value: Any) -> str:
    return repr(" ".join(value) if isinstance(value, tuple) else value)
