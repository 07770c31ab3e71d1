"""A server with a keeper: what the keeper opens, and what each dispatcher does from its start to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import mmap
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import fdpass
from fdpass._fd import Fd
from fdpass._memory import common, mapped
from fdpass._sockets import identity_of, unlink_own
from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass.errors import StartFailed
from fdpass.serve.dispatcher.access_log import AccessLog
from fdpass.serve.dispatcher.dispatcher import Dispatcher
from fdpass.serve.dispatcher.listeners import Listening
from fdpass.serve.dispatcher.passing import forget_closed
from fdpass.serve.dispatcher.pool.generation import stored_generations, stored_logs
from fdpass.serve.dispatcher.unnamed import sort_out
from fdpass.serve.keeper.clone import why_not
from fdpass.serve.keeper.estate import MOST_LISTENERS, VERSION, Estate, Head, size_for
from fdpass.serve.keeper.keeper import Keeper
from fdpass.serve.keeper.makers import Makers
from fdpass.serve.keeper.notices import Notices, RelayedNotifier
from fdpass.serve.keeper.program import Program
from fdpass.serve.keeper.requests import NOTICE, WAKE
from fdpass.serve.keeper.table import open_descriptors
from fdpass.serve.keeper.template import import_anew
from fdpass.serve.keeper.upgrades import Upgrades
from fdpass.serve.operator.beginning import announce, configure_log
from fdpass.serve.operator.control import ControlServer
from fdpass.serve.operator.dashboard import Dashboard
from fdpass.serve.operator.events import Events
from fdpass.serve.operator.folder import Folder
from fdpass.serve.operator.operations import Operations
from fdpass.serve.operator.outcomes import Outcomes
from fdpass.serve.operator.signals import do_nothing, ignoring
from fdpass.serve.orphan import become_keeper, watch_keeper
from fdpass.serve.shared import roles
from fdpass.serve.shared.config import Config
from fdpass.serve.shared.events import Event, about
from fdpass.serve.shared.logs import add_tail, to_standard_error
from fdpass.serve.shared.source import Source

log = logging.getLogger("fdpass.serve")

_EVENT_BITS = 32  # of an event's number; those above have the serial number of its dispatcher
_RENEWAL = "fdpass.serve.renewal"


def refusal(config: Config, listeners: Collection[Listening]) -> str:
    """Why a server with these settings has no keeper; "" if it has one."""
    if config.keeper == "off":
        return "--keeper off"
    if len(listeners) > MOST_LISTENERS:
        return f"there are more than {MOST_LISTENERS} listeners"
    return why_not()


@dataclass(frozen=True, slots=True)
class Kept:
    """What the keeper has opened for all its dispatchers.

    Attributes:
        config: The settings.
        reread: Makes the settings again, for a reload.
        listeners: The listeners.
        control: The control socket, which listens.
        path: Its path.
        notifier: Notifies the service manager.
        capacity: The most connections of one worker.
        most: The most connections of all workers.
        signals: The signals that the server handles, or ignores.
        mask: The signals that workers shall have blocked.
        environ: The environment with which the keeper was started.
        source: See `shared.source`.
        folder: The folder in which the server was started.
    """

    config: Config
    reread: Callable[[], Config]
    listeners: list[Listening | None]
    control: socket.socket
    path: str
    notifier: Notifier
    capacity: int
    most: int
    signals: frozenset[int]
    mask: frozenset[int]
    environ: Mapping[str, str]
    source: Source | None
    folder: Folder

    def run(self, access_log: AccessLog) -> None:
        """Serve until the server has stopped.

        Args:
            access_log: The access log of the first generation. Given.

        Raises:
            StartFailed: No worker became ready.
        """
        with common(size_for(self.most), name="fdpass-estate") as memory:
            buffer = mapped(memory)
            estate = Estate.fresh(buffer, self.most)
            estate.head[Head.CONTROL] = self.control.fileno() + 1
            if access_log.fd is not None:
                estate.head[Head.ACCESS_LOG] = access_log.fd.take() + 1
            estate.head[Head.LISTENERS] = len(self.listeners)
            for index, listener in enumerate(self.listeners):
                assert listener is not None
                estate.head[Head.LISTENER + index] = listener.sock.fileno() + 1
            self.keep(estate, buffer, memory.fileno())

    def keep(self, estate: Estate, buffer: mmap.mmap, memory: int, foreign: Collection[int] = ()) -> None:
        """Serve with an estate until the server has stopped; see `keeper`."""
        roles.take("keeper")
        if self.config.log_config:
            to_standard_error(self.config.log_level, as_json=self.config.log_json)
        try:
            self.keeper(estate, buffer, memory, foreign).run()
        finally:
            self._forget_closed(estate)

    def keeper(self, estate: Estate, buffer: mmap.mmap, memory: int, foreign: Collection[int] = ()) -> Keeper:
        """Make the keeper.

        Args:
            estate: The estate. Lent.
            buffer: The memory in which it is.
            memory: The descriptor of this memory.
            foreign: Descriptors that are open now, and not the keeper's.
        """
        ignored = {number: ignoring(number) for number in self.signals}

        def named() -> set[int]:
            return estate.named() | stored_logs(estate)

        def unnamed() -> set[int]:
            return {fd for fd in open_descriptors(named() | keeper.own) if stat.S_ISSOCK(os.fstat(fd).st_mode)}

        def renew() -> tuple[Callable[[], None], str]:
            known = self._handed_over(estate) | {"own": sorted(keeper.own), "environ": dict(self.environ)}
            renewed: tuple[Callable[[], None], str] = import_anew(_RENEWAL).prepared(known, buffer, memory)
            return renewed

        program = Program(
            self.environ,
            memory,
            self.mask,
            describe=lambda: self._handed_over(estate),
            named=named,
            unnamed=unnamed,
        )
        keeper = Keeper(
            estate,
            lambda: self.dispatch(estate, keeper),
            signals=self.signals,
            on_other=lambda number: ignored[number](),
            upgrades=Upgrades(estate, Makers(estate, fdpass.__version__, renew), program),
            notices=Notices(self.notifier, estate),
            foreign=foreign,
        )
        return keeper

    def _handed_over(self, estate: Estate) -> dict[str, Any]:
        """What code of another version needs to know beside the estate; for JSON. `renewal` reads it."""
        return {
            "layout": VERSION,
            "settings": dataclasses.asdict(self.config),
            "source": self.source,
            "listeners": [
                each and {"name": each.name, "adopted": each.adopted, "file": each.file is not None}
                for each in self.listeners
            ],
            "path": self.path,
            "notifier": self.notifier.handed_over(),
            "capacity": self.capacity,
            "signals": sorted(self.signals),
            "mask": sorted(self.mask),
            "folder": self.folder.name,
            "generations": stored_generations(estate),
        }

    def _close_rest(self, estate: Estate) -> None:
        """Close what the last dispatcher has left open, in a keeper that was a dispatcher."""
        for listener in self._open_listeners(estate):
            listener.close()
        if (number := estate.take_fd(Head.CONTROL)) >= 0:
            control = socket.socket(fileno=number)
            unlink_own(control, identity_of(control.getsockname()))

    def _forget_closed(self, estate: Estate) -> None:
        """Let go of the sockets that a dispatcher has closed: their numbers may be other files' by now."""
        for index, listener in enumerate(self.listeners):
            if listener is not None and not estate.head[Head.LISTENER + index]:
                unlink_own(listener.sock, listener.file)
                listener.sock.detach()
        if not estate.head[Head.CONTROL]:
            self.control.detach()

    # In a dispatcher

    def dispatch(self, estate: Estate, keeper: Keeper) -> None:
        """The life of a dispatcher."""
        head = estate.head
        if not self.config.keeps:
            forget_closed(estate, open_descriptors())  # before anything is opened here, as below
        named = estate.named() | stored_logs(estate)
        unnamed = sorted(open_descriptors(named | keeper.own))  # first of all, before anything is opened here
        head[Head.SERIAL] += 1
        head[Head.BEAT] = time.monotonic_ns()
        roles.take("dispatcher", score=roles.BEHIND)
        os.setpgid(0, 0)  # Ctrl-C is for the keeper
        for number in self.signals:
            signal.signal(number, do_nothing)  # a service manager sends them to all processes
        signal.pthread_sigmask(signal.SIG_SETMASK, {*self.mask, WAKE})
        adopts = head[Head.GENERATIONS] != 0
        listeners = self._open_listeners(estate)
        used = estate.numbers[: head[Head.HIGH]].tolist()
        found = sort_out(unnamed, (number - 1 for number in used if number), listeners)
        notifier = RelayedNotifier(self.notifier, estate)
        loop, outcomes = Loop(), Outcomes(notifier, [each.name for each in listeners])
        dispatcher = Dispatcher(
            loop,
            self.config,
            listeners,
            capacity=self.capacity,
            estate=estate,
            access_log=AccessLog("") if adopts else self._first_access_log(estate),
            workers_changed=outcomes.settled,
        )
        head[Head.ACCESS_LOG] = 0  # the generations have it
        events = Events(loop, (head[Head.SERIAL] - 1) << _EVENT_BITS)
        add_tail(events)
        configure_log(dispatcher.pool.current)
        if adopts:
            dispatcher.adopt(*found)
        else:
            announce(self.config, listeners)
        operations = Operations(
            loop,
            dispatcher,
            reread=self.reread,
            outcomes=outcomes,
            notifier=notifier,
            estate=estate,
            folder=self.folder,
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        control = ControlServer(
            loop, self.path, operations.commands(listeners, events, os.path.abspath(self.path)), self.control
        )
        beside = Dashboard(loop, self.config, self.path) if self.config.dashboard else None
        operations.resume()  # before the loop runs: a signal of its first round would be acted on twice
        loop.call_later(0, lambda: _report_serving(estate))
        watch_keeper(loop, head[Head.KEEPER], lambda: self._on_keepers_end(estate, keeper, operations))
        with contextlib.suppress(StartFailed):  # the keeper has the reason from the estate
            dispatcher.run()
        head[Head.STOPPED] = 1  # what follows needs no successor, and may take long without a beat
        head[Head.CONTROL] = 0
        control.close()
        if beside is not None:
            beside.close()
        dispatcher.close()
        for listener in listeners:
            listener.close()
        log.info("the server has stopped", extra=about(Event.SERVER_STOPPED))

    def _first_access_log(self, estate: Estate) -> AccessLog:
        number = estate.take_fd(Head.ACCESS_LOG)
        if number < 0:
            return AccessLog("")
        return AccessLog(self.config.access_log, self.config.access_log_format, Fd(number))

    def _on_keepers_end(self, estate: Estate, keeper: Keeper, operations: Operations) -> None:
        """The keeper has been killed: without one, this dispatcher would have no successor."""
        if operations.stopping:
            return
        why_stop = "--orphan stop" if self.config.orphan == "stop" else why_not()
        if not why_stop:
            become_keeper(keeper, self.config, self.notifier, lambda: self._close_rest(estate))
        log.error("the keeper has ended: the server stops (%s)", why_stop, extra=about(Event.KEEPER_ENDED))
        operations.stop()

    def _open_listeners(self, estate: Estate) -> list[Listening]:
        """The listeners that no dispatcher has closed."""
        head = estate.head

        def forget(word: int) -> Callable[[], None]:
            def clear() -> None:
                head[word] = 0

            return clear

        words = [Head.LISTENER + index for index in range(len(self.listeners))]
        pairs = zip(words, self.listeners, strict=True)
        return [
            # A file is removed only by the process that has found it.
            replace(listener, forget=forget(word), file=listener.file and identity_of(listener.file.path))
            for word, listener in pairs
            if listener is not None and head[word]
        ]


def _report_serving(estate: Estate) -> None:
    """Tell the keeper that this dispatcher accepts connections."""
    estate.head[Head.SERVES] = time.monotonic_ns()
    with contextlib.suppress(ProcessLookupError):
        os.kill(estate.head[Head.KEEPER], NOTICE)
