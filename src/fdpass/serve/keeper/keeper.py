"""`Keeper`: the main process, which waits, and makes a dispatcher whenever there is none.

It shares its table of descriptors with the dispatcher (see `clone`), so that all descriptors outlive the
dispatcher; the estate says what they are. It opens and closes none itself, and starts no thread.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Collection

from fdpass._words import counted
from fdpass.errors import FdpassError, StartFailed
from fdpass.serve.keeper.clone import become_subreaper, clone
from fdpass.serve.keeper.estate import Estate, Head
from fdpass.serve.keeper.life import live
from fdpass.serve.keeper.notices import Notices
from fdpass.serve.keeper.requests import NOTICE, QUIESCED, REQUESTS, UPGRADE, WAKE
from fdpass.serve.keeper.table import open_descriptors
from fdpass.serve.keeper.upgrades import Upgrades
from fdpass.serve.keeper.waiting import forget, wait_for_signal
from fdpass.serve.shared.events import Event, about

log = logging.getLogger("fdpass.serve")

_CHECK_SECONDS = 1.0
_MOST_UNCHANGED = 2  # checks after which a dispatcher whose beat is the same is killed
_MOST_FAILURES = 8  # dispatchers in a row that end before they serve
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.005, 0.5
_QUIET_SECONDS = 10.0  # until the same failure is logged again


class Keeper:
    """Makes dispatchers until one has ended because it should.

    Args:
        estate: What dispatchers leave to each other. Lent.
        life: What a dispatcher does, from its start to its end. It never raises `SystemExit`.
        signals: The signals that the keeper waits for, beside SIGCHLD.
        on_other: Called with a signal that is no request.
        upgrades: Replaces the dispatcher's code on request.
        notices: Sends the dispatcher's notifications to the service manager.
        foreign: Descriptors that are open now, and not the keeper's.

    Attributes:
        own: Descriptors that are the keeper's, or were open before: no dispatcher closes them.
    """

    def __init__(
        self,
        estate: Estate,
        life: Callable[[], None],
        *,
        signals: Collection[int],
        on_other: Callable[[int], None],
        upgrades: Upgrades,
        notices: Notices,
        foreign: Collection[int] = (),
    ) -> None:
        self._estate = estate
        self._life = life
        self._signals = {*signals, signal.SIGCHLD}
        self._on_other = on_other
        self._upgrades = upgrades
        self._notices = notices
        self._foreign = frozenset(foreign)
        self._pid = 0
        self._ended: int | None = None
        self._hung = False
        self._failures = 0
        self._logged_at = -_QUIET_SECONDS
        self.own: set[int] = set()

    def run(self) -> None:
        """Return once the server has stopped.

        Raises:
            StartFailed: The first worker could not be started, or no dispatcher came to serve.
        """
        self._begin()
        self._upgrades.go_on()
        self.own = open_descriptors() - self._estate.named() - self._foreign
        self._keep()

    def run_as_successor(self) -> None:
        """In a dispatcher whose keeper has ended: as `run`, with this process as the keeper.

        The stack and the objects of the dispatcher stay as they are: the next dispatcher has their descriptors.
        So this process must end by `os._exit`, and must not log into files that the dispatcher has opened.
        """
        signal.set_wakeup_fd(-1)  # the number can be another file's, soon
        self._upgrades.forget()
        self._begin()
        self._keep()

    def _begin(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        become_subreaper()
        self._estate.head[Head.KEEPER] = os.getpid()
        self._notices.open()

    def _keep(self) -> None:
        try:
            self._make_all()
        finally:
            self._upgrades.close()
            self._notices.send()
            forget(self._signals)

    def _make_all(self) -> None:
        head = self._estate.head
        while True:
            self._make()
            status = self._wait()
            if (number := self._estate.take_fd(Head.FAILURE)) >= 0:
                raise StartFailed(os.pread(number, os.fstat(number).st_size, 0).decode())
            if head[Head.STOPPED]:
                return
            code = os.waitstatus_to_exitcode(status)
            if code != QUIESCED or not head[Head.QUIESCE]:
                how, extra = _words(code), about(Event.DISPATCHER_DIED)
                log.error("the dispatcher %d has ended (%s): another takes over", self._pid, how, extra=extra)
                self._pause(status)
            self._upgrades.on_dispatcher_end()
            while self._upgrades.is_awaited:
                self._wait_for_signal(_SHORTEST_PAUSE)
                self._upgrades.look()

    def _pause(self, status: int) -> None:
        """Wait a moment if the dispatcher has ended before it served."""
        code = os.waitstatus_to_exitcode(status)
        if self._upgrades.has_served:
            self._failures = 0
            self._upgrades.on_served()
            return
        if self._upgrades.on_failure(status, hung=self._hung):
            self._failures = 0
            return
        if code == -signal.SIGKILL:  # by somebody, or for lack of memory: its code has no fault
            time.sleep(_SHORTEST_PAUSE)
            return
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            raise StartFailed(f"{counted(self._failures, 'dispatcher')} in a row ended before they served")
        time.sleep(min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2**self._failures))

    def _make(self) -> None:
        """Make a dispatcher, or let a template make it."""
        self._pid, self._ended, self._hung = 0, None, False
        reaped: dict[int, int] = {}

        def has_ended(pid: int) -> bool:
            reaped.update(self._reap())
            return pid in reaped

        serial = self._estate.head[Head.SERIAL]
        pid = self._upgrades.make(has_ended)
        self._ended = reaped.get(pid)
        self._pid = pid or self._clone()
        self._estate.head[Head.DISPATCHERS] += 1
        self._upgrades.on_made(self._pid, serial)
        if self._ended is not None:
            self._upgrades.on_gone()

    def _clone(self) -> int:
        """Make a dispatcher. Once the server serves, try until the kernel has room for a process."""
        gc.collect()
        gc.freeze()  # so that no object of ours is finalised in the dispatcher
        while True:
            try:
                pid = clone()
                break
            except FdpassError as error:
                self._wait_for_room(error)
        if pid == 0:
            live(self._life, self._estate)
        return pid

    def _wait_for_room(self, error: FdpassError) -> None:
        """Wait until another process may fit.

        Raises:
            CallFailed: `error`: the server has not served yet; or it has to stop, and its workers finish alone.
        """
        head, now = self._estate.head, time.monotonic()
        if not head[Head.SERVED] or head[Head.STOPS]:
            raise error
        if now >= self._logged_at + _QUIET_SECONDS:
            self._logged_at = now
            log.error("no dispatcher can be made, and new connections wait: %s", error)
        self._wait_for_signal(_LONGEST_PAUSE)

    def _wait(self) -> int:
        """Wait for the end of the dispatcher. Returns its status, as of wait(2)."""
        head = self._estate.head
        beat, unchanged, due = 0, 0, time.monotonic() + _CHECK_SECONDS
        while self._ended is None:
            self._upgrades.look()
            self._notices.send()
            self._wait_for_signal(min(due, self._notices.due) - time.monotonic())
            if time.monotonic() < due:
                continue
            due = time.monotonic() + _CHECK_SECONDS  # from now: the processes of a container can be frozen
            unchanged = unchanged + 1 if beat == head[Head.BEAT] and not head[Head.STOPPED] else 0
            beat = head[Head.BEAT]
            if unchanged >= _MOST_UNCHANGED:
                extra = about(Event.DISPATCHER_KILLED)
                log.error("the dispatcher %d does not run: it is killed", self._pid, extra=extra)
                os.kill(self._pid, signal.SIGKILL)
                self._hung = True
                unchanged = 0
        return self._ended

    def _wait_for_signal(self, seconds: float) -> None:
        """Wait for a signal, and act on it."""
        number = wait_for_signal(self._signals, seconds)
        if number == signal.SIGCHLD:
            self._reap()
        elif number in REQUESTS:
            word = REQUESTS[signal.Signals(number)]
            self._estate.head[word] += 1
            if word == Head.STOPS:
                self._upgrades.on_stop()
            if self._pid and self._ended is None:
                os.kill(self._pid, WAKE)
        elif number == UPGRADE:
            self._upgrades.request_by_signal()
        elif number not in {0, NOTICE}:  # after NOTICE `_wait` looks at the estate
            self._on_other(number)

    def _reap(self) -> dict[int, int]:
        """Reap all children that have ended: the dispatcher, and processes whose own parents have ended.

        Returns:
            Their statuses, as of wait(2), by process number.
        """
        found: dict[int, int] = {}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            found[pid] = status
            if pid == self._pid:
                self._ended = status
                self._upgrades.on_gone()
            else:
                self._estate.note_status(pid, status)
                self._upgrades.on_child(pid, status)


def _words(code: int) -> str:
    try:
        return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
