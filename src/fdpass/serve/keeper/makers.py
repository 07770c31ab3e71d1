"""`Makers`: the processes of which the keeper has dispatchers made: a template, the one before, and the next one.

Process number 0 is the keeper itself, which makes dispatchers of the code with which it was started.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from typing import NamedTuple

from fdpass.serve.keeper import template
from fdpass.serve.keeper.estate import Estate
from fdpass.serve.keeper.texts import Text

_MOST_FAILURES = 3  # dispatchers of a template in a row that end before they serve
_MOST_KILLED = 10  # likewise, by SIGKILL: from outside, as a rule


class Maker(NamedTuple):
    """A process that makes dispatchers.

    Attributes:
        pid: Its process number; 0 for the keeper.
        version: The version of its code.
    """

    pid: int
    version: str


class Makers:
    """The processes that make dispatchers.

    Args:
        estate: Has the words for templates. Lent.
        version: The version of the keeper's code.
        renew: See `template.Renew`.

    Attributes:
        current: Makes the next dispatcher.
        before: The one to go back to if dispatchers of `current` do not serve.
        candidate: The process number of a template that is to make dispatchers; 0 if there is none. Or that of a
            process that only checks the new code.
    """

    def __init__(self, estate: Estate, version: str, renew: template.Renew) -> None:
        self._estate = estate
        self._renew = renew
        self._own = Maker(0, version)
        self._failures = self._killed = 0
        self.current = self.before = self._own
        self.candidate = 0

    def start_candidate(self) -> None:
        """Let a template read the new code; see `template.start`.

        Raises:
            CallFailed: There is no room for a process.
        """
        self.candidate = template.start(self._estate, self._renew)

    def drop_candidate(self) -> None:
        """End the candidate, if there is one."""
        end(self.candidate)
        self.candidate = 0

    def promote(self, version: str) -> None:
        """Let the candidate make the next dispatchers.

        Args:
            version: The version of its code.
        """
        self._failures = self._killed = 0
        self.before, self.current = self.current, Maker(self.candidate, version)
        self.candidate = 0

    def settle(self) -> None:
        """The dispatchers of the present one serve: the one before is not needed."""
        end(self.before.pid)
        self.before = self._own

    def go_back(self) -> None:
        """Let the one before make the next dispatchers; end the present one."""
        end(self.current.pid)
        self.current, self.before = self.before, self._own
        self._failures = self._killed = 0

    def has_lost(self, pid: int) -> bool:
        """A child has ended, and was reaped. Returns whether it was the present one: then call `go_back`."""
        if pid == self.before.pid:
            self.before = self._own
        if pid != self.current.pid:
            return False
        self.current = Maker(0, self.current.version)
        return True

    def make(self, ended: Callable[[int], bool]) -> int:
        """Let the present one make a dispatcher; see `template.dispatcher_of`.

        Returns:
            The process number of the dispatcher; 0 if the template does not make one, or is the keeper itself.
        """
        return template.dispatcher_of(self.current.pid, self._estate, ended) if self.current.pid else 0

    def failed(self, status: int, *, hung: bool) -> str:
        """A dispatcher has ended before it served.

        Args:
            status: As of wait(2).
            hung: The keeper has killed it, as it did not run.

        Returns:
            Why it is time to go back; "" if it is not.
        """
        if not self.current.pid:
            return ""
        if hung:
            return "the new dispatcher hung before it served"
        killed = os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        self._failures += not killed
        self._killed += killed
        if self._failures < _MOST_FAILURES and self._killed < _MOST_KILLED:
            return ""
        reason = "" if killed else self._estate.texts[Text.REASON]
        count = self._failures + self._killed
        return f"the new dispatcher ended before it served, {count} times: {reason or describe(status)}"

    def served(self) -> None:
        """A dispatcher has ended that had served."""
        self._failures = self._killed = 0

    def forget(self) -> None:
        """All templates have ended, with the keeper of before."""
        self.current = self.before = self._own
        self.candidate = 0

    def close(self) -> None:
        """End all templates."""
        for pid in (self.candidate, self.current.pid, self.before.pid):
            end(pid)
        self.forget()


def end(pid: int) -> None:
    """End a child that has not been reaped; 0 is none."""
    if pid:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def describe(status: int) -> str:
    """What wait(2) returned, in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
