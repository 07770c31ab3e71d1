"""`Upgrades`: how the keeper replaces the code of the dispatcher, or its own too, while the server serves.

An upgrade of the dispatcher: the keeper makes a template (see `template`), which reads the new code. When it is
ready, the dispatcher quiesces: it ends between two steps. The template makes the next one. If that one does not
serve, the code of before goes on.

An upgrade with exec: a new interpreter checks the new code. The dispatcher quiesces. The keeper becomes the new
program, by exec.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from fdpass.errors import FdpassError
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.makers import Makers, describe
from fdpass.serve.keeper.program import Program
from fdpass.serve.keeper.requests import WAKE
from fdpass.serve.keeper.texts import Text
from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")

_READING_SECONDS = 60.0  # for which new code may be read and checked
_MOST_TRIES = 5  # readings of new code that the death of a dispatcher may stop; for the next one clients wait
_WAIT_SECONDS = 5.0  # for which they wait
_REASON_MAX, _VERSION_MAX = 500, 40  # characters; JSON writes some as 6 bytes; the log has all of a reason
_FAILED = about(Event.UPGRADE_FAILED)


class Phase(Enum):
    """What an upgrade waits for.

    Attributes:
        NONE: No upgrade is in progress.
        DISPATCHER: A dispatcher has to serve before the new code is read.
        READING: A template reads the new code.
        CHECKING: A new interpreter checks the new code.
        QUIESCING: The dispatcher of before has to end.
        ADOPTING: The new dispatcher has to serve.
    """

    NONE = "none"
    DISPATCHER = "dispatcher"
    READING = "reading"
    CHECKING = "checking"
    QUIESCING = "quiescing"
    ADOPTING = "adopting"


class Upgrades:
    """The upgrades, and the template, as the keeper sees them.

    Args:
        estate: Has the requests, and gets the outcomes. Lent.
        makers: The processes that make dispatchers.
        program: The keeper's program, for an upgrade with exec.

    Attributes:
        phase: What the upgrade in progress waits for.
    """

    def __init__(self, estate: Estate, makers: Makers, program: Program) -> None:
        self._estate = estate
        self._head = estate.head
        self._makers = makers
        self._program = program
        self._old_version = self._new_version = makers.current.version
        self._request: dict[str, Any] = {}
        self._again = False
        self._tries = 0
        self._until = self._since = 0.0
        self.phase = Phase.NONE
        self._dispatcher = 0
        self._serial = self._head[Head.SERIAL]  # of the dispatcher before the present one

    # What the keeper reports

    def request_by_signal(self) -> None:
        """Upgrade the dispatcher, and then reload."""
        if self.phase is Phase.NONE:
            self._begin({"number": secrets.randbits(62) or 1, "kind": "dispatcher", "reload": True})
        else:
            self._again = True  # the code may have changed since

    def look(self) -> None:
        """See in the estate, and by the clock, what comes next."""
        head = self._head
        if self.phase is Phase.NONE and head[Head.ASKED] != head[Head.TAKEN]:
            self._begin(self._estate.texts.load_json(Text.REQUEST))
            head[Head.TAKEN] = head[Head.ASKED]
        elif self.phase is Phase.NONE and self._again:
            self._again = False
            self.request_by_signal()
        if self.phase is Phase.DISPATCHER and self.has_served:
            self._read_or_check()
        elif self.phase is Phase.READING and head[Head.TEMPLATE] == self._makers.candidate:
            log.info("upgrade: fdpass %s is ready", self._estate.texts[Text.REASON])
            self._quiesce()
        elif self.phase is Phase.ADOPTING and self.has_served:
            self._succeed()
        elif self.phase in {Phase.READING, Phase.CHECKING} and time.monotonic() > self._until:
            self._refuse(f"the new code was not ready within {_READING_SECONDS:g} s")

    @property
    def is_awaited(self) -> bool:
        """Whether the next dispatcher has to wait for the new code: dispatchers have died too often meanwhile."""
        return self.phase is Phase.READING and not self._dispatcher

    @property
    def has_served(self) -> bool:
        """Whether the present dispatcher, or the one that has just ended, has come to serve."""
        return self._serial < self._head[Head.SERIAL] == self._head[Head.SERVED]

    def on_made(self, dispatcher: int, serial: int) -> None:
        """There is a new dispatcher.

        Args:
            dispatcher: Its process number.
            serial: The serial number of the dispatcher before.
        """
        self._dispatcher, self._serial = dispatcher, serial

    def on_gone(self) -> None:
        """The dispatcher has ended, and was reaped."""
        self._dispatcher = 0

    def on_child(self, pid: int, status: int) -> None:
        """A process that is no dispatcher has ended, and was reaped."""
        if pid == self._makers.candidate:
            self._makers.candidate = 0
            if self.phase is Phase.CHECKING:
                self._on_checked(os.waitstatus_to_exitcode(status))
            elif self.phase in {Phase.READING, Phase.QUIESCING}:
                why = self._estate.texts[Text.REASON] if self.phase is Phase.READING else ""
                self._refuse(why or f"the process that read the new code has ended ({describe(status)})")
        elif self._makers.has_lost(pid):
            self._on_template_end(status)

    def on_stop(self) -> None:
        """The server stops: give the upgrade up, unless the new code is in force already."""
        self._again = False
        if self.phase not in {Phase.NONE, Phase.ADOPTING}:
            self._refuse("the server is stopping")

    def on_dispatcher_end(self) -> None:
        """The next dispatcher is about to be made. Does not return if the keeper becomes another program."""
        self._since = self._head[Head.QUIESCED] / 1e9 or time.monotonic()
        if self.phase is Phase.READING and self._tries >= _MOST_TRIES:
            self._until = min(self._until, time.monotonic() + _WAIT_SECONDS)
        elif self.phase is Phase.READING:  # the template has files open: see there
            self._makers.drop_candidate()
            self._tries += 1
            self.phase = Phase.DISPATCHER
        elif self.phase is Phase.QUIESCING:
            self._replace()

    def _replace(self) -> None:
        """The dispatcher of before has ended: the new code takes over."""
        self._head[Head.QUIESCE] = 0
        if self._request["kind"] == "exec":
            self._become()
        else:
            self.phase = Phase.ADOPTING
            self._makers.promote(self._new_version)

    def make(self, ended: Callable[[int], bool]) -> int:
        """Let a template make a dispatcher; see `Makers.make`. 0 if the keeper has to make it."""
        while template := self._makers.current.pid:
            if made := self._makers.make(ended):
                return made
            if template == self._makers.current.pid:  # else `on_child` has been called
                self._on_template_end(signal.SIGKILL)
        return 0

    def on_failure(self, status: int, *, hung: bool) -> bool:
        """A dispatcher has ended before it served. After several, go back to the code of before: True.

        Args:
            status: As of wait(2).
            hung: The keeper has killed it, as it did not run.
        """
        why = self._makers.failed(status, hung=hung)
        if why:
            self._go_back(why)
        return bool(why)

    def on_served(self) -> None:
        """A dispatcher that had served has ended."""
        self._makers.served()

    def go_on(self) -> None:
        """The keeper has become this program, for an upgrade whose dispatcher is still to come."""
        if self._head[Head.UPGRADING]:
            self._request = self._estate.texts.load_json(Text.REQUEST)
            self._old_version = self._request["version"]
            self.phase = Phase.ADOPTING

    def forget(self) -> None:
        """This process is the keeper now; the one before has ended, and so have its templates."""
        self._makers.forget()
        if self._head[Head.UPGRADING]:
            self._refuse("the keeper has ended")
        self._request, self._again, self.phase = {}, False, Phase.NONE  # those of when this process was cloned

    def close(self) -> None:
        """End the processes that were made for upgrades."""
        self._makers.close()

    # The steps of an upgrade

    def _begin(self, request: dict[str, Any]) -> None:
        self._request, self._tries = request, 0
        self._old_version = self._makers.current.version
        self._head[Head.UPGRADING] = request["number"]
        self.phase = Phase.DISPATCHER
        if self._head[Head.STOPS]:
            self._refuse("the server is stopping")

    def _read_or_check(self) -> None:
        self._until = time.monotonic() + _READING_SECONDS
        if self._request["kind"] == "exec":
            self._check()
            return
        log.info("upgrade: reading the new code")
        self.phase = Phase.READING
        try:
            self._makers.start_candidate()
        except (FdpassError, RuntimeError) as error:
            self._refuse(str(error))

    def _check(self) -> None:
        self.phase, self._estate.texts[Text.REASON] = Phase.CHECKING, ""
        try:
            self._makers.candidate = self._program.check(self._request["python"], self._estate)
        except FdpassError as error:
            self._refuse(str(error))
        else:
            log.info("upgrade: %s checks the new code", self._program.interpreter(self._request["python"]))

    def _on_checked(self, code: int) -> None:
        output, version = self._program.output(self._estate), self._estate.texts[Text.REASON]
        if code == 0 and version:  # any program can end with 0
            log.info("upgrade: fdpass %s starts in a new interpreter", version)
            self._quiesce()
        else:
            self._refuse(output or f"the new interpreter ended without starting fdpass: exit code {code}")

    def _quiesce(self) -> None:
        self._new_version = self._estate.texts[Text.REASON][:_VERSION_MAX]
        self._estate.texts[Text.REASON] = ""
        if self.is_awaited:
            self._replace()
            return
        self.phase = Phase.QUIESCING
        self._head[Head.QUIESCED] = 0
        self._head[Head.QUIESCE] = 1
        self._wake()

    def _become(self) -> None:
        self._makers.close()
        facts = {"version": self._old_version, "since": self._since}
        self._estate.texts.store_json(Text.REQUEST, self._request | facts)
        try:
            self._program.replace(self._request["python"])
        except (FdpassError, OSError) as error:
            self._refuse(str(error))

    def _succeed(self) -> None:
        self._makers.settle()
        before, after = self._old_version, self._makers.current.version
        seconds = max(0.0, self._head[Head.SERVES] / 1e9 - self._request.get("since", self._since))
        text = "upgrade: fdpass %s serves in the place of fdpass %s; no connection was accepted for %.1f ms"
        log.info(text, after, before, seconds * 1000, extra=about(Event.UPGRADE_DONE))
        self._answer({"ok": True, "before": before, "after": after, "ms": round(seconds * 1000, 1)})
        if self._request.get("reload"):
            self._head[Head.RELOADS] += 1
            self._wake()

    def _refuse(self, why: str) -> None:
        """The upgrade is given up; the code of before serves."""
        self._head[Head.QUIESCE] = 0
        self._makers.drop_candidate()
        if self._head[Head.CHECK]:
            self._program.output(self._estate)
        version = self._makers.current.version
        log.error("upgrade: refused, fdpass %s keeps serving: %s", version, why, extra=_FAILED)
        self._answer({"ok": False, "error": f"fdpass {version} keeps serving: {why[:_REASON_MAX]}"})

    def _go_back(self, why: str) -> None:
        """The template's dispatchers do not serve, or it has ended: the code of before makes the next one."""
        failed = self._makers.current.version
        self._makers.go_back()
        version = self._makers.current.version
        if self.phase is Phase.ADOPTING:
            log.error("upgrade: rolled back, fdpass %s serves again: %s", version, why, extra=_FAILED)
            self._answer(
                {"ok": False, "error": f"rolled back, fdpass {version} serves again: {why[:_REASON_MAX]}"}
            )
        else:
            log.error(
                "fdpass %s makes the next dispatcher, not fdpass %s: %s", version, failed, why, extra=_FAILED
            )

    def _on_template_end(self, status: int) -> None:
        was_serving = self.phase is Phase.NONE
        self._go_back(f"the process that made its dispatchers has ended ({describe(status)})")
        if was_serving and not self._head[Head.STOPS]:
            self._begin({"number": secrets.randbits(62) or 1, "kind": "dispatcher"})

    def _answer(self, outcome: dict[str, Any]) -> None:
        """Store the outcome, for the dispatcher, which replies to the client."""
        self.phase = Phase.NONE
        self._estate.texts.store_json(Text.OUTCOME, outcome)
        self._head[Head.ANSWERED] = self._head[Head.UPGRADING]
        self._head[Head.UPGRADING] = 0
        self._wake()

    def _wake(self) -> None:
        if self._dispatcher:
            os.kill(self._dispatcher, WAKE)
