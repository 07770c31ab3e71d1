"""`run`: all of `fdpass keep`. It acquires resources of the machine in order, and releases them in reverse."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import signal
import socket
from collections.abc import Callable

import fdpass
from fdpass._activation import inherited
from fdpass._keep.client import default_path
from fdpass._keep.commands import Commands
from fdpass._keep.environment import environment
from fdpass._keep.held_listeners import HeldListeners
from fdpass._keep.limits import make_room
from fdpass._keep.notify_socket import NotifySocket
from fdpass._keep.protocol import Protocol
from fdpass._keep.relay import Relay
from fdpass._keep.settings import Settings
from fdpass._keep.store import Store
from fdpass._keep.supervisor import Supervisor
from fdpass._supervision.commands import Command, CommandServer, control_socket
from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass._supervision.orphans import become_subreaper
from fdpass.errors import AddressInUse

log = logging.getLogger("fdpass.keep")


def run(settings: Settings) -> int:
    """Run the program until it ends, or until this process gets SIGTERM or SIGINT. Main thread only.

    Returns:
        The exit code of the command.

    Raises:
        ConfigError: A setting is wrong, or does not fit this machine.
        AddressInUse: Another process has the control socket, or listens at an address.
        CallFailed: The program cannot be run, or another system call failed.
    """
    with contextlib.ExitStack() as held:
        held.callback(_hold_signals())  # until their callbacks stand: sockets have files that must be removed
        variables = environment()
        notifier = Notifier.from_environment()
        held.callback(notifier.close)
        loop = Loop()
        held.callback(loop.close)
        become_subreaper()
        listeners = HeldListeners(settings.listen, inherited())
        held.callback(listeners.close)
        room = make_room(settings.store_max, len(listeners.all))
        store = Store(loop, room.store, [each.name for each in listeners.all])
        held.callback(store.close)
        relay = Relay(notifier, restarts=settings.restart != "no")
        protocol = Protocol(store, relay, settings.store_uids)
        path = settings.control or default_path()
        commands: dict[str, Command] = {}
        held.callback(CommandServer(loop, _control_socket(path), commands, "fdpass keep").close)
        # Root's program can become another user.
        mode = 0o666 if os.geteuid() == 0 or settings.store_uids else 0o600
        notify = NotifySocket(loop, f"{path}.notify", mode, protocol.may_notify, protocol.on_message)
        held.callback(notify.close)
        variables |= {"NOTIFY_SOCKET": notify.address, "FDSTORE": str(room.store)}
        supervisor = Supervisor(loop, settings, listeners, store, relay, variables, notify.drain, room.program)
        held.callback(supervisor.close)
        protocol.supervisor = supervisor
        commands |= Commands(settings, supervisor, listeners, store).all()
        loop.on_signals(_callbacks(supervisor))
        log.info("fdpass %s keeps %s; its control socket is %s", fdpass.__version__, settings.command[0], path)
        supervisor.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        loop.run()
        return supervisor.code


_PASSED_ON = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, *_PASSED_ON)


def _hold_signals() -> Callable[[], object]:
    """Let signals wait that have callbacks later. Returns a function that restores the mask of before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    return lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _callbacks(supervisor: Supervisor) -> dict[int, Callable[[], None]]:
    found: dict[int, Callable[[], None]] = {
        signal.SIGTERM: supervisor.stop,
        signal.SIGINT: supervisor.stop,
        signal.SIGCHLD: supervisor.on_child,
    }
    found |= {number: functools.partial(supervisor.pass_on, number) for number in _PASSED_ON}
    # What nohup, or a shell for a job in the background, ignores stays ignored.
    return {number: callback for number, callback in found.items() if signal.getsignal(number) != signal.SIG_IGN}


def _control_socket(path: str) -> socket.socket:
    try:
        return control_socket(path)
    except AddressInUse as error:
        raise AddressInUse(
            errno.EADDRINUSE,
            f"another fdpass keep has the control socket {path}: give this one its own with --control PATH",
        ) from error
