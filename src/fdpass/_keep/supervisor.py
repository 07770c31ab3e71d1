"""`Supervisor`: starts the program, hears its notifications, restarts it after a failure, and stops it."""

from __future__ import annotations

import enum
import logging
import signal
import time
from collections.abc import Callable, Mapping

from fdpass._keep import program as programs
from fdpass._keep.held_listeners import HeldListeners
from fdpass._keep.program import Program
from fdpass._keep.relay import Relay
from fdpass._keep.restart import RUN, Restart
from fdpass._keep.settings import Settings, exit_code, is_restarted
from fdpass._keep.store import Store
from fdpass._supervision.backoff import Backoff
from fdpass._supervision.loop import Loop, Timer
from fdpass._supervision.orphans import Orphans
from fdpass._words import counted
from fdpass.errors import FdpassError

log = logging.getLogger("fdpass.keep")


class State(enum.Enum):
    """What the program does, as far as `fdpass keep` knows."""

    RUNNING = "running"  # it has not said that it is ready
    READY = "ready"
    RELOADING = "reloading"
    STOPPING = "stopping"
    WAITING = "waiting for its restart"
    ENDED = "ended"


class Supervisor:
    """Supervises the program.

    Args:
        loop: Event loop.
        settings: What the user asked for.
        listeners: What the program gets at each start. Lent.
        store: What the program has stored. Lent.
        relay: Tells an outer service manager.
        environment: The variables of the program.
        drain: Handles the notifications that have come.
        most_files: The soft limit of the program on open files.

    Attributes:
        state: What the program does.
        status: The newest STATUS of the program.
        program: Its main process; None while none runs.
        starts: How often it was started.
        code: The exit code of `fdpass keep`, once the loop has been stopped.
    """

    def __init__(  # noqa: PLR0917 - each is another part of `fdpass keep`
        self,
        loop: Loop,
        settings: Settings,
        listeners: HeldListeners,
        store: Store,
        relay: Relay,
        environment: Mapping[str, str],
        drain: Callable[[], None],
        most_files: int,
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._listeners = listeners
        self._store = store
        self._relay = relay
        self._environment = environment
        self._drain = drain
        self._most_files = most_files
        self._orphans = Orphans(lambda: (self.program.pid,) if self.program is not None else ())
        self._backoff = Backoff(loop, self._start_again)
        self._ending = False  # the program was told to end
        self._stopping = False  # and `fdpass keep` ends with it
        self._killed = False
        self._says_ready = False  # a process of the program has said READY
        self._restart: Restart | None = None  # the last one that an operator has asked for
        self._deadline: Timer | None = None
        self._started_at = 0.0
        self.state = State.ENDED
        self.status = ""
        self.program: Program | None = None
        self.starts = 0
        self.code = 0

    # Starting

    def start(self) -> None:
        """Start the program.

        Raises:
            CallFailed: The program cannot be run.
        """
        held = [(each.name, each.fd) for each in self._listeners.all]
        held += [(each.name, each.fd) for each in self._store.all()]
        self._listeners.set_blocking()
        program = programs.start(self._settings.command, held, self._environment, most_files=self._most_files)
        self.starts += 1
        self._started_at = time.monotonic()
        self.state, self.status = State.RUNNING, ""
        self._follow(program)
        log.info(
            "process %d runs %s, with %s and %s",
            program.pid,
            self._settings.command[0],
            counted(len(self._listeners.all), "listener"),
            counted(len(self._store), "stored descriptor"),
        )

    def _start_again(self) -> None:
        if self._stopping:
            return
        try:
            self.start()
        except (FdpassError, OSError) as error:  # the program is being replaced, or there are too many processes
            self.state = State.WAITING
            words = (isinstance(error, OSError) and error.strerror) or error  # without the number of the error
            reason = f"{words}; the next try is in {self._backoff.failed():g} s"
            log.warning("%s", reason)
            self._end_restart(reason)
        else:
            if self._restart is not None and not self._restart.over:
                self._restart.running()

    def _end_restart(self, reason: str = "") -> None:
        if self._restart is not None:
            self._restart.end(reason)

    def restart(self, tell: Callable[[str], None]) -> None:
        """Let the program end, and start it again with its descriptors.

        Args:
            tell: See `Restart`.
        """
        if self._stopping:
            tell("fdpass keep is stopping")
        elif self._restart is not None and not self._restart.over:
            tell("another restart is in progress")
        else:
            self._restart = Restart(self._loop, tell, awaits_ready=self._says_ready)
            self._backoff.skip()
            self._backoff.succeeded()
            if self.program is None:
                self._start_again()
            else:
                log.info(
                    "restarting: process %d ends (at most %g s)", self.program.pid, self._settings.stop_timeout
                )
                self._let_end(self.program)

    def on_ready(self) -> None:
        """The program has said READY."""
        if self.state is not State.READY and self.program is not None:
            seconds = time.monotonic() - self._started_at
            if self.state is State.RELOADING:
                log.info("process %d has reloaded", self.program.pid)
            else:
                log.info("process %d is ready (%.1f s)", self.program.pid, seconds)
        self.state = State.READY
        self._says_ready = True
        self._end_restart()

    def _follow(self, program: Program) -> None:
        """Make a process the program's main process."""
        if self.program is not None:
            self._loop.unwatch(self.program.pidfd.fileno())
            self.program.close()
        self.program = program
        self._loop.watch(program.pidfd.fileno(), self._on_end)

    def follow(self, program: Program) -> None:
        """Make another process the main one: the program has said so (MAINPID). Taken over."""
        log.info("process %d is the program from now on", program.pid)
        self._follow(program)
        self._orphans.reap()  # the old process is one of the others now, and may have ended already

    # The end of the program

    def _on_end(self) -> None:
        program = self.program
        assert program is not None
        self._drain()  # what it sent before its end counts
        if self.program is not program:
            return  # the last thing that it sent was MAINPID
        self._loop.unwatch(program.pidfd.fileno())
        if not self._ending:
            program.signal_group(signal.SIGKILL)  # while the ended process keeps its number
        status = program.reap()
        program.close()
        self.program = None
        if self._ending:
            self.code = exit_code(status, stopped=True)
            self._orphans.reap()  # the ended program may have hidden others, and SIGCHLD came once for all
            if self._killed:
                self._orphans.kill()
            self._end_if_alone()
            return
        self._orphans.kill()
        words = programs.describe(status)
        self._end_restart(f"process {program.pid} ended at its start ({words}): its own output says why")
        if is_restarted(self._settings.restart, status):
            self._schedule_restart(program.pid, words)
            return
        log.info("process %d ended (%s); no other is started", program.pid, words)
        self._relay.stopping()
        self.state, self.code = State.ENDED, exit_code(status, stopped=False)
        self._loop.stop()

    def _schedule_restart(self, pid: int, words: str) -> None:
        self.state = State.WAITING
        if time.monotonic() - self._started_at >= RUN:
            self._backoff.succeeded()
        log.warning(
            "process %d ended (%s); another is started in %g s, with %s",
            pid,
            words,
            self._backoff.failed(),
            counted(len(self._store), "stored descriptor"),
        )

    def on_child(self) -> None:
        """Reap children that have ended, which is all that SIGCHLD means; `_on_end` reaps the main process."""
        self._orphans.reap()
        if self._ending:
            self._end_if_alone()

    # Stopping

    def stop(self) -> None:
        """Stop the program, and then the loop. The second call stops it at once."""
        if self._stopping:
            log.warning("stopping at once")
            self._kill()
            return
        self._stopping = True
        self._end_restart("fdpass keep is stopping")
        self._backoff.cancel()
        self._relay.stopping()
        if self.program is not None:
            log.info("stopping: process %d ends (at most %g s)", self.program.pid, self._settings.stop_timeout)
        if self._ending:
            return  # for a restart
        if self.program is None:
            self._loop.stop()
            return
        self._let_end(self.program)

    def _let_end(self, program: Program) -> None:
        """Tell the program and all its processes to end, in time."""
        self._ending = True
        self.state = State.STOPPING
        for number in (signal.SIGTERM, signal.SIGCONT):  # a stopped process handles SIGTERM once it continues
            program.signal_group(number)
            self._orphans.signal(number)
        self._deadline = self._loop.call_later(self._settings.stop_timeout, self._on_deadline)

    def _on_deadline(self) -> None:
        if self.program is not None:
            log.warning("process %d did not end in time (--stop-timeout): it is killed", self.program.pid)
        self._kill()

    def _kill(self) -> None:
        self._killed = True
        if self.program is not None:
            self.program.signal_group(signal.SIGKILL)
            self.program.signal(signal.SIGKILL)
        self._orphans.kill()
        self._end_if_alone()

    def _end_if_alone(self) -> None:
        """Go on once the program and all its processes have ended, or have been killed as far as possible."""
        if self.program is None and (self._killed or not self._orphans.adopted()):
            if self._deadline is not None:
                self._deadline.cancel()
            self._ending = self._killed = False
            self.state = State.ENDED
            if self._stopping:
                self._loop.stop()
            else:
                self._drain()  # what its last processes sent is not said by the next one
                self._start_again()

    def pass_on(self, number: int) -> None:
        """Pass a signal on to the main process of the program."""
        if self.program is None:
            log.warning("%s is not passed on: the program does not run", signal.Signals(number).name)
        else:
            self.program.signal(number)

    def close(self) -> None:
        """Kill what still runs, after an error."""
        self._backoff.cancel()
        if self.program is not None:
            self._loop.unwatch(self.program.pidfd.fileno())
            self.program.signal_group(signal.SIGKILL)
            self.program.signal(signal.SIGKILL)
            self.program.reap()
            self.program.close()
            self.program = None
        self._orphans.kill()
