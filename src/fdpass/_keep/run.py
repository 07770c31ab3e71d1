"""`run`: all of `fdpass keep`. It acquires resources of the machine in order, and releases them in reverse."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable

import fdpass
from fdpass._activation import inherited
from fdpass._keep.client import default_path
from fdpass._keep.commands import Commands
from fdpass._keep.held_listeners import HeldListeners
from fdpass._keep.notify_socket import NotifySocket
from fdpass._keep.protocol import Protocol
from fdpass._keep.relay import Relay
from fdpass._keep.settings import Settings
from fdpass._keep.store import Store
from fdpass._keep.supervisor import Supervisor
from fdpass._sockets import bound_socket
from fdpass._supervision.commands import CommandServer
from fdpass._supervision.loop import Loop
from fdpass._supervision.notifier import Notifier
from fdpass._supervision.orphans import become_subreaper
from fdpass.errors import AddressInUse, ConfigError

log = logging.getLogger("fdpass.keep")

_UNKNOWN = "fdpass keep of this version does not know this request"
_PASSED_ON = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_OWN_FILES = 128  # descriptors that this process needs for itself, and for clients of its control socket
_PROGRAM_FILES = 256  # descriptors that the program can open besides those that it is given


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
        environment = _environment()
        notifier = Notifier.from_environment()
        held.callback(notifier.close)
        loop = Loop()
        held.callback(loop.close)
        become_subreaper()
        listeners = HeldListeners(settings.listen, inherited())
        held.callback(listeners.close)
        most_files = _raise_limit(settings, len(listeners.all))
        store = Store(loop, settings.store_max, [each.name for each in listeners.all])
        held.callback(store.close)
        relay = Relay(notifier, restarts=settings.restart != "no")
        protocol = Protocol(store, relay, settings.store_uids)
        path = settings.control or default_path()
        control = _control_socket(path)
        held.callback(control.close)
        notify = NotifySocket(loop, f"{path}.notify", protocol.may_notify, protocol.on_message)
        held.callback(notify.close)
        environment |= {"NOTIFY_SOCKET": notify.address, "FDSTORE": str(settings.store_max)}
        supervisor = Supervisor(loop, settings, listeners, store, relay, environment, notify.drain, most_files)
        held.callback(supervisor.close)
        protocol.supervisor = supervisor
        commands = CommandServer(loop, control, Commands(settings, supervisor, listeners, store).all(), _UNKNOWN)
        held.callback(commands.close)
        loop.on_signals({
            signal.SIGTERM: supervisor.stop,
            signal.SIGINT: supervisor.stop,
            signal.SIGCHLD: supervisor.on_child,
            **{number: _passing(supervisor, number) for number in _PASSED_ON},
        })  # fmt: skip
        log.info("fdpass %s keeps %s; its control socket is %s", fdpass.__version__, settings.command[0], path)
        supervisor.start()
        loop.run()
        return supervisor.code


def _passing(supervisor: Supervisor, number: int) -> Callable[[], None]:
    return lambda: supervisor.pass_on(number)


_OWN_VARIABLES = {
    *("NOTIFY_SOCKET", "FDSTORE", "WATCHDOG_PID"),
    *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
}


def _environment() -> dict[str, str]:
    """The variables of the program; those that this process's own service manager set for it are left out.

    WATCHDOG_USEC stays: the program feeds the watchdog of this process, through the relay.
    """
    own = set(_OWN_VARIABLES)
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        own.add("WATCHDOG_USEC")
    return {name: value for name, value in os.environ.items() if name not in own}


def _control_socket(path: str) -> socket.socket:
    try:
        return bound_socket(path, "seqpacket", 0o600, 16)
    except AddressInUse as error:
        raise AddressInUse(
            errno.EADDRINUSE,
            f"another fdpass keep has the control socket {path}: give this one its own with --control PATH",
        ) from error


def _raise_limit(settings: Settings, listeners: int) -> int:
    """Raise this process's limit on open files to what the store needs.

    Returns:
        The soft limit of the program: as it was, or what the program needs for all descriptors that it can get. It
        can be above the hard limit.

    Raises:
        ConfigError: The hard limit is too low for the store.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.store_max + listeners
    if hard != resource.RLIM_INFINITY and needed + _OWN_FILES > hard:
        raise ConfigError(
            f"--store-max {settings.store_max} cannot fit: a process may have {hard} open files (ulimit -Hn), and "
            f"fdpass keep needs {listeners + _OWN_FILES} for itself; lower --store-max, or raise the limit"
        )
    # For a moment, a message of 253 descriptors and the three of the standard streams come on top.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft if soft == resource.RLIM_INFINITY else max(soft, needed + _PROGRAM_FILES)
